import type { Lora, Model, Parameters } from '../server/wire.ts'
import { DEFAULTS, settings, type Chosen, type Settings } from './settings.ts'
import { takeOver } from './take-over.ts'

/** options of the server that the page sends although it has no control for them */
const OTHERS = [
  'shift',
  'hires',
  'variation',
  'convention',
  'noise',
  'max_sequence_length',
  'prompt_weights',
  'step_cache',
]

/** Takes over how an image was made. Options that it does not name get their defaults. */
export function restoreSettings({ options, loras, unmapped }: Parameters, choice: Chosen): void {
  const { true_cfg, ...rest } = options
  const cfg = true_cfg as number | { scale: number } | undefined
  const { model, format, quality } = settings.value
  const restored: Settings = {
    ...DEFAULTS,
    model: modelOf(unmapped, choice.models) ?? model,
    format,
    quality,
    others: {},
  }
  const lost: string[] = []
  for (const [name, value] of Object.entries(rest)) {
    if (name === 'negative_prompt') restored.negativePrompt = String(value)
    else if (name === 'seed') Object.assign(restored, { seed: value, isSeedLocked: true })
    else if (['prompt', 'width', 'height', 'steps', 'guidance', 'sampler', 'scheduler', 'strength'].includes(name))
      Object.assign(restored, { [name]: value })
    else if (OTHERS.includes(name)) restored.others[name] = value
    else lost.push(name)
  }
  if (cfg !== undefined) restored.trueCfg = typeof cfg === 'number' ? cfg : cfg.scale
  if (typeof cfg === 'object' && Object.keys(cfg).length > 1) lost.push('the range of true CFG')
  const [known, unknown] = splitLoras(loras, choice)
  restored.loras = known
  lost.push(...unknown.map(({ name }) => `LoRA ${name}`))
  takeOver(restored, restored.strength !== null, lost)
}

/** A file names the model as its program does; only a name that the server has as well is of use. */
function modelOf({ Model: name }: Record<string, string>, models: Model[]): string | undefined {
  return models.find(({ id }) => id === name)?.id
}

function splitLoras(loras: Lora[], { capabilities }: Chosen): [known: Lora[], unknown: Lora[]] {
  const isKnown = (lora: Lora) => capabilities.loras.some(({ name }) => name === lora.name)
  return [loras.filter(isKnown), loras.filter((lora) => !isKnown(lora))]
}
