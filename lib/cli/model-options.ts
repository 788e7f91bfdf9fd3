import { Option, type Command } from 'commander'
import { FluxError } from '../errors.js'
import type { LoadOptions, ModelFiles } from '../index.js'
import { PARTS, type Part } from '../model/components.js'
import { parseNumber } from './arguments.js'
import { printWarning } from './failure.js'
import { withProgress } from './write-progress.js'

export interface ModelOptions extends Partial<Pick<ModelFiles, Part>> {
  model?: string
  previewDecoder?: string
  t5Tokenizer?: string
  clipTokenizer?: string
}

export const MACHINE_OPTIONS = [
  'backend',
  'threads',
  'precision',
  'deviceMemory',
  'textEncoders',
] as const satisfies (keyof LoadOptions)[]
export type MachineOptions = Pick<LoadOptions, (typeof MACHINE_OPTIONS)[number]>

export function addModelOptions(command: Command): Command {
  return command
    .optionsGroup('Model:')
    .addOption(
      new Option(
        '--model <name>',
        'a preset such as flux.1-schnell, hf:owner/name, a folder, or tiny (default: tiny)',
      ).conflicts(PARTS),
    )
    .option('--transformer <file>', 'the transformer, .gguf or .safetensors; these four may also be hf:owner/name:file')
    .option('--t5 <file>', 'the T5-XXL text encoder')
    .option('--clip <file>', 'the CLIP-L text encoder')
    .option('--vae <file>', 'the autoencoder')
    .option('--preview-decoder <file>', "TAEF1's decoder, for --preview-method taef1")
    .option('--t5-tokenizer <path>', "T5's tokenizer (default: inside its GGUF file, or next to it)")
    .option('--clip-tokenizer <path>', "CLIP's tokenizer (default: next to its file)")
}

export function addMachineOptions(command: Command): Command {
  return command
    .optionsGroup('Machine:')
    .option('--backend <name>', 'auto, cpu, gpu, a name from ggflux devices, or rpc://host:port (default: auto)')
    .option('--threads <n>', 'CPU threads (default: one per processor)', parseNumber)
    .addOption(
      new Option('--precision <name>', 'f32 rounds nothing, bf16 everything (default: auto)').choices([
        'auto',
        'f32',
        'bf16',
      ]),
    )
    .option(
      '--device-memory <GiB>',
      "GPU memory for each network's weights; the rest stays in this machine's memory (default: what is free)",
      (text) => Math.round(parseNumber(text) * 2 ** 30),
    )
    .addOption(
      new Option('--text-encoders <mode>', 'whether they stay in memory during generation')
        .choices(['auto', 'keep', 'release'])
        .default('release'),
    )
}

/** What the pipeline loads. What is on the hub and not in its cache is downloaded first, with a line that tells how far it is. */
export async function resolveModel(options: ModelOptions & { quiet?: true }): Promise<string | ModelFiles> {
  const { model = 'tiny', t5Tokenizer, clipTokenizer, previewDecoder, quiet } = options
  const tokenizers = { ...(t5Tokenizer ? { t5: t5Tokenizer } : {}), ...(clipTokenizer ? { clip: clipTokenizer } : {}) }
  const more = {
    ...(previewDecoder ? { previewDecoder } : {}),
    ...(Object.keys(tokenizers).length > 0 ? { tokenizers } : {}),
  }
  const parts = given(options, PARTS)
  if (Object.keys(parts).length > 0) {
    const missing = PARTS.filter((part) => !parts[part]).map((part) => `--${part}`)
    if (missing.length === 0) return onThisMachine({ ...(parts as ModelFiles), ...more }, quiet)
    const needed = '--transformer, --t5, --clip and --vae, or --model with their folder'
    throw new FluxError('FLUX_BAD_OPTION', `${missing.join(', ')} missing: give ${needed}`)
  }
  if (Object.keys(more).length === 0) return onThisMachine(model, quiet)
  if (model === 'tiny' && more.tokenizers)
    throw new FluxError('FLUX_BAD_OPTION', 'the tiny model has its own tokenizers: leave them out, or name a model')
  const files = await onThisMachine(model, quiet)
  const { resolveSource } = await import('../pipeline/open-model.js')
  return { ...(await resolveSource(files)), ...more }
}

async function onThisMachine(source: string | ModelFiles, quiet: true | undefined): Promise<string | ModelFiles> {
  const { isOnHub } = await import('../hub/plan.js')
  if (!isOnHub(source)) return source
  const { resolveSource } = await import('../pipeline/open-model.js')
  const { result } = await withProgress(
    quiet,
    (signal, onProgress) => resolveSource(source, { signal, onProgress, onWarning: quiet ? () => {} : printWarning }),
    'asking the hub',
  )
  return result
}

/** Those of the options that were given. */
export function given<T extends object, K extends keyof T>(options: T, names: readonly K[]): Pick<T, K> {
  return Object.fromEntries(
    names.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]),
  ) as Pick<T, K>
}
