import { Option, type Command } from 'commander'
import { FluxError } from '../errors.js'
import type { LoadOptions, ModelFiles } from '../index.js'
import { requiredComponents } from '../families/family.js'
import { allComponents, familiesWith } from '../families/registry.js'
import { closestFamily, filesAt, requiredKinds, type ModelPlaces } from '../model/model-files.js'
import { parseNumber } from './arguments.js'
import { printWarning } from './failure.js'
import { withProgress } from './write-progress.js'

/** Paths by option name. A component's option has its name; a tokenizer's option adds `Tokenizer` to it. */
export interface ModelOptions {
  model?: string
  [path: string]: unknown
}

export const DEVICE_OPTIONS = ['backend', 'threads', 'precision', 'deviceMemory'] as const
export const MACHINE_OPTIONS = [...DEVICE_OPTIONS, 'textEncoders'] as const satisfies (keyof LoadOptions)[]
export type MachineOptions = Pick<LoadOptions, (typeof MACHINE_OPTIONS)[number]>

export function addModelOptions(command: Command): Command {
  const required = Object.keys(requiredKinds())
  const [first = ''] = required
  command
    .optionsGroup('Model:')
    .addOption(
      new Option(
        '--model <name>',
        'a preset such as flux.1-schnell, hf:owner/name, a folder, or tiny (default: tiny)',
      ).conflicts(required),
    )
  const components = Object.entries(allComponents())
  for (const [name, { title }] of components) {
    const more = name === first ? ', .gguf or .safetensors; these files may also be presets or hf:owner/name:file' : ''
    command.option(`${flag(name)} <file>`, title + more)
  }
  for (const [name, { tokenizer }] of components)
    if (tokenizer) command.option(`${flag(name)}-tokenizer <path>`, tokenizer.title)
  return command
}

/** Returns `--preview-decoder` for `previewDecoder`. */
const flag = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

export function addMachineOptions(command: Command): Command {
  return addDeviceOptions(command).addOption(
    new Option('--text-encoders <mode>', 'whether they stay in memory during generation')
      .choices(['auto', 'keep', 'release'])
      .default('release'),
  )
}

/** Those of a program that makes one image after the other. */
export function addHostOptions(command: Command): Command {
  return addDeviceOptions(command).addOption(
    new Option('--text-encoders <mode>', 'whether they stay in memory between images (default: auto)').choices([
      'auto',
      'keep',
      'release',
    ]),
  )
}

/** Those that any network takes. */
export function addDeviceOptions(command: Command): Command {
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
}

/**
 * Returns what the pipeline loads. Files that are not in the hub's cache are downloaded first, with a progress line.
 */
export async function resolveModel(options: ModelOptions & { quiet?: true }): Promise<string | ModelFiles> {
  const { model = 'tiny', quiet } = options
  const { components, tokenizers } = pathsIn(options)
  const required = Object.keys(requiredKinds())
  const parts = Object.keys(components).filter((name) => required.includes(name))
  if (parts.length > 0) {
    if (familiesWith(Object.keys(components)).length > 0)
      return onThisMachine(filesAt({ components, tokenizers }), quiet)
    const needed = requiredComponents(closestFamily(Object.keys(components)))
    const missing = needed.filter((name) => !components[name]).map(flag)
    const all = `${needed.slice(0, -1).map(flag).join(', ')} and ${flag(needed.at(-1)!)}`
    throw new FluxError('FLUX_BAD_OPTION', `${missing.join(', ')} missing: give ${all}, or --model with their folder`)
  }
  const hasTokenizers = Object.keys(tokenizers).length > 0
  if (!hasTokenizers && Object.keys(components).length === 0) return onThisMachine(model, quiet)
  if (model === 'tiny' && hasTokenizers)
    throw new FluxError('FLUX_BAD_OPTION', 'the tiny model has its own tokenizers: leave them out, or name a model')
  const files = await onThisMachine(model, quiet)
  const { resolveSource } = await import('../pipeline/open-model.js')
  return onThisMachine({ ...(await resolveSource(files)), ...filesAt({ components, tokenizers }) }, quiet)
}

function pathsIn(options: ModelOptions): ModelPlaces {
  const given = Object.entries(allComponents()).flatMap(([name, { tokenizer }]) => [
    ['components', name, options[name]] as const,
    ...(tokenizer ? [['tokenizers', name, options[`${name}Tokenizer`]] as const] : []),
  ])
  const places: ModelPlaces = { components: {}, tokenizers: {} }
  for (const [what, name, path] of given) if (typeof path === 'string' && path !== '') places[what][name] = path
  return places
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

/** Picks the options that were given. */
export function given<T extends object, K extends keyof T>(options: T, names: readonly K[]): Pick<T, K> {
  return Object.fromEntries(
    names.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]),
  ) as Pick<T, K>
}
