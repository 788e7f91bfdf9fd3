import type { Command } from 'commander'
import type { Inspection } from '../index.js'
import { formatBytes, formatCount, printable, table } from './format.js'

const METADATA_LINES = 12

export function inspectCommand(program: Command): void {
  program
    .command('inspect')
    .description('tell what model files hold')
    .argument('<files...>', '.gguf or .safetensors files')
    .option('--json', 'print one JSON array')
    .addHelpText('after', `\nExamples:\n  ggflux inspect flux1-schnell-Q4_0.gguf\n  ggflux inspect --json *.gguf ae.safetensors`)
    .action(inspectFiles)
}

async function inspectFiles(paths: string[], { json }: { json?: true }): Promise<void> {
  const [{ inspect }, { FluxError }] = await Promise.all([import('../inspect.js'), import('../errors.js')])
  const results: (Inspection | { path: string; error: { code: string; message: string } })[] = []
  for (const path of paths) {
    try {
      const result = await inspect(path)
      results.push(result)
      if (!json) console.log(`${results.length > 1 ? '\n' : ''}${describe(result)}`)
    } catch (error) {
      if (!(error instanceof FluxError)) throw error
      results.push({ path, error: { code: error.code, message: error.message } })
      process.exitCode = 1
      console.error(`ggflux: ${printable(error.message)}`)
    }
  }
  if (json) console.log(JSON.stringify(results, null, 2))
}

function describe(file: Inspection): string {
  const { path, format, size, role, architecture, parameters, tensors, types, config, metadata, tokenizer, problems } = file
  const bytes = Object.values(types).reduce((sum, use) => sum + use.bytes, 0)
  const typeRows = Object.entries(types)
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .map(([type, use]) => {
      const percent = (100 * use.bytes) / Math.max(bytes, 1)
      return [type, `${use.count} tensors`, formatBytes(use.bytes), `${percent.toFixed(1)} %`]
    })
  const entries = Object.entries(metadata)
  const shown = entries.slice(0, METADATA_LINES).map(([key, value]) => printable(`${key} = ${value}`))
  if (entries.length > shown.length) shown.push(`and ${entries.length - shown.length} more; --json shows them all`)
  const sections: [string, string[]][] = [
    ['role', [role]],
    ['architecture', [printable(architecture)]],
    ['parameters', [`${formatCount(parameters)} in ${tensors} tensors`]],
    ['size', [`${formatBytes(size)}, ${format}`]],
    ['types', typeRows.length > 0 ? table(typeRows, [1, 2, 3]).split('\n') : []],
    ['config', Object.entries(config ?? {}).map(([name, value]) => `${name} = ${value}`)],
    ['tokenizer', tokenizer ? ['inside'] : []],
    ['metadata', shown],
    ['problems', problems.length > 0 ? problems.map(printable) : ['none']],
  ]
  const lines = sections.flatMap(([name, lines]) => lines.map((line, i) => `  ${(i === 0 ? name : '').padEnd(13)} ${line}`))
  return [path, ...lines].join('\n')
}
