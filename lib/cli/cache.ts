import type { Command } from 'commander'
import { formatBytes, printable, table } from './format.js'

/** `ggflux list` and `ggflux rm`. */
export function cacheCommands(program: Command): void {
  program
    .command('list')
    .description("list the FLUX.1 files in the hub's cache")
    .option('--json', 'print one JSON array')
    .addHelpText('after', '\nExample:\n  ggflux list')
    .action(listModels)
  program
    .command('rm')
    .description("remove files from the hub's cache")
    .argument(
      '<models...>',
      'as printed by ggflux list; hf:owner/name is a whole repository, a preset only its own file',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  ggflux rm hf:city96/FLUX.1-dev-gguf:flux1-dev-Q8_0.gguf\n  ggflux rm hf:city96/FLUX.1-dev-gguf',
    )
    .action(removeModels)
}

async function listModels({ json }: { json?: true }): Promise<void> {
  const { cachedModels } = await import('../inspect/cached-models.js')
  const models = await cachedModels()
  if (json) console.log(JSON.stringify(models, null, 2))
  else if (models.length === 0)
    console.log('No FLUX.1 file is in the cache. `ggflux pull flux.1-schnell` takes one there.')
  else {
    console.log(
      table(
        models.map(({ reference, role, architecture, size }) => [
          printable(reference),
          role,
          printable(architecture),
          formatBytes(size),
        ]),
        [3],
      ),
    )
    console.log(`${models.length} files, ${formatBytes(models.reduce((sum, { size }) => sum + size, 0))}`)
  }
}

async function removeModels(models: string[]): Promise<void> {
  const { removeFromCache } = await import('../hub/cache.js')
  for (const model of models) {
    const { bytes, removed } = await removeFromCache(model)
    for (const reference of removed) console.log(`removed ${printable(reference)}`)
    console.log(`${model}: ${formatBytes(bytes)} are free again`)
  }
}
