import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Option, type Command } from 'commander'
import { FluxError } from '../errors.js'
import { MODELS } from '../tools/synth/models.js'
import type { FileType } from '../tools/synth/gguf-metadata.js'
import { parseNumber } from './arguments.js'
import { formatBytes, formatCount, formatSeconds, table } from './format.js'
import { checkTarget } from './output.js'
import { withProgress } from './write-progress.js'

interface Options {
  arch?: string
  model?: string
  type: string
  output?: string
  seed?: number
  set: [field: string, value: unknown][]
  list?: true
  quiet?: true
}

const LISTED_TYPES = ['F16', 'Q8_0', 'Q4_0'] as const

export function synthCommand(program: Command): void {
  program
    .command('synth')
    .description('write a model with random weights, for benchmarks and tests')
    .option('--arch <name>', 'the network; --list shows all')
    .addOption(
      new Option('--model <name>', 'write a whole model into the folder --output; --type applies to its transformer')
        .choices(Object.keys(MODELS))
        .conflicts(['arch', 'set']),
    )
    .option('--type <name>', 'type of the matrices, in upper or lower case', 'F16')
    .option('-o, --output <file>', '.gguf, or .safetensors (F32, F16, BF16)')
    .option('--seed <n>', 'the same seed gives the same file (default: 0)', parseNumber)
    .addOption(
      new Option('--set <field=value>', "change the network's configuration; may be repeated")
        .argParser(collectField)
        .default([], 'none'),
    )
    .option('--list', 'list the networks and their sizes')
    .option('--quiet', 'print only errors')
    .addHelpText(
      'after',
      `
Examples:
  ggflux synth --list
  ggflux synth --model flux-schnell --type q4_0 -o full
  ggflux synth --arch flux-schnell --type q4_0 -o flux1-schnell-Q4_0.gguf
  ggflux synth --arch flux-dev --set depth=2 --set depthSingleBlocks=4 --type q8_0 -o small.gguf`,
    )
    .action(synth)
}

async function synth(options: Options): Promise<void> {
  const { arch, model, type, output, list } = options
  if (list) return listArchitectures()
  if (!arch && !model)
    throw new FluxError('FLUX_BAD_OPTION', '--arch is missing: ggflux synth --list shows which networks there are')
  if (!output) throw new FluxError('FLUX_BAD_OPTION', '-o is missing: give the name of the file to write')
  if (!model) return synthFile({ ...options, arch: arch!, output })
  await mkdir(output, { recursive: true })
  for (const { architecture, file, type: own = type } of MODELS[model as keyof typeof MODELS]) {
    await synthFile({ ...options, arch: architecture, type: own, output: join(output, file) })
  }
}

async function synthFile({
  arch,
  type,
  output,
  seed,
  set,
  quiet,
}: Options & { arch: string; output: string }): Promise<void> {
  await checkTarget(output)
  const { synthesize } = await import('../tools/synth/synth.js')
  const { nativeQuantize } = await import('../native/addon.js')
  const { result, seconds } = await withProgress(quiet, (signal, onProgress) =>
    synthesize({
      architecture: arch,
      path: output,
      type: type.toUpperCase() as FileType,
      config: Object.fromEntries(set),
      quantize: nativeQuantize,
      signal,
      onProgress,
      ...(seed === undefined ? {} : { seed }),
    }),
  )
  const { path, parameters, size } = result
  if (!quiet)
    console.log(`${path}  ${formatCount(parameters)} parameters  ${formatBytes(size)}  ${formatSeconds(seconds)}`)
}

async function listArchitectures(): Promise<void> {
  const { networkExamples } = await import('../networks/registry.js')
  const { storedType } = await import('../tools/quantisation-rules.js')
  const { elementCount, tensorBytes } = await import('../formats/tensor-types.js')
  const rows = [...networkExamples()].map(([name, { definition, config }]) => {
    const layout = definition.layout(config)
    const parameters = layout.reduce((sum, { shape }) => sum + elementCount(shape), 0)
    const bytes = LISTED_TYPES.map((type) =>
      layout.reduce((sum, tensor) => sum + tensorBytes(storedType(definition, tensor, type), tensor.shape), 0),
    )
    return [name, formatCount(parameters), ...bytes.map(formatBytes)]
  })
  console.log(table([['NAME', 'PARAMETERS', ...LISTED_TYPES], ...rows], [1, 2, 3, 4]))
}

/** `depth=2`, `chMult=1,2,4,4`, `guidanceEmbed=false` */
function collectField(text: string, fields: Options['set']): Options['set'] {
  const [, field, value] = /^([^=]+)=(.+)$/s.exec(text) ?? []
  if (!field || !value)
    throw new FluxError('FLUX_BAD_OPTION', `--set is '${text}': give a field and its value, such as depth=2`)
  const parts = value.split(',').map(fieldValue)
  return [...fields, [field, parts.length > 1 ? parts : parts[0]]]
}

function fieldValue(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true'
  const number = Number(text)
  return text.trim() === '' || Number.isNaN(number) ? text : number
}
