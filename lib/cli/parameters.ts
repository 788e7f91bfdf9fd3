import type { Command } from 'commander'
import { printable, table } from './format.js'

export function parametersCommand(program: Command): void {
  program
    .command('parameters')
    .description('show how an image was made, as ggflux, A1111, Forge or ComfyUI stored it')
    .argument('<image>', 'a PNG, JPEG or WebP file; AVIF needs the package sharp')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExamples:\n  ggflux parameters fox.png\n  ggflux parameters --json ComfyUI_00001_.png')
    .action(showParameters)
}

async function showParameters(path: string, { json }: { json?: true }): Promise<void> {
  const { readParameters } = await import('../images/read-parameters.js')
  const found = await readParameters(path)
  if (json) return console.log(JSON.stringify(found ?? null, null, 2))
  if (!found) return console.log(`${printable(path)} does not say how it was made`)
  const { writer, options, loras, unmapped } = found
  const rows = [
    ['written by', writer],
    ...Object.entries(options).map(([name, value]) => [
      name,
      typeof value === 'object' ? JSON.stringify(value) : String(value),
    ]),
    ...loras.map(({ name, scale }) => ['lora', `${name} ${scale}`]),
    ...Object.entries(unmapped).map(([name, value]) => [`no option: ${name}`, value]),
  ]
  console.log(table(rows.map((row) => row.map(printable))))
}
