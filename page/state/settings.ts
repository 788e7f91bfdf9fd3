import { computed } from '@preact/signals'
import type { Capabilities, Format, Lora, Model } from '../server/wire.ts'
import { server } from './server.ts'
import { stored } from './stored.ts'

/** What the user has set. Null is the default: of the model, or of the server. */
export interface Settings {
  model: string | null
  prompt: string
  negativePrompt: string
  trueCfg: number
  width: number | null
  height: number | null
  steps: number | null
  guidance: number | null
  seed: number
  isSeedLocked: boolean
  count: number
  sampler: string | null
  scheduler: string | null
  loras: Lora[]
  strength: number | null
  maskBlur: number
  isOnlyMasked: boolean
  format: Format
  quality: number | null
  /** options of a restored image that the page has no control for, by their names on the wire */
  others: Record<string, unknown>
}

export const DEFAULTS: Settings = {
  model: null,
  prompt: '',
  negativePrompt: '',
  trueCfg: 1,
  width: null,
  height: null,
  steps: null,
  guidance: null,
  seed: 0,
  isSeedLocked: false,
  count: 1,
  sampler: null,
  scheduler: null,
  loras: [],
  strength: null,
  maskBlur: 4,
  isOnlyMasked: false,
  format: 'png',
  quality: null,
  others: {},
}

export const settings = stored<Settings>('ggflux.settings', DEFAULTS, (value) => ({ ...DEFAULTS, ...value }))

export function change(changes: Partial<Settings>): void {
  settings.value = { ...settings.value, ...changes }
}

/** Size, steps and guidance of one model suit no other. */
export function changeModel(model: string): void {
  change({ model, width: null, height: null, steps: null, guidance: null, strength: null })
}

export function resetSettings(): void {
  const { model, prompt, seed } = settings.value
  settings.value = { ...DEFAULTS, model, prompt, seed }
}

export interface Chosen {
  model: Model
  models: Model[]
  capabilities: Capabilities
}

/** The chosen model, with what the server can do. Null until the server has answered. */
export const chosen = computed<Chosen | null>(() => {
  if (!server.value) return null
  const { capabilities, models } = server.value
  const find = (id: string | null) => models.find((model) => model.id === id)
  const model = find(settings.value.model) ?? find(capabilities.default_model) ?? models[0]
  return model ? { model, models, capabilities } : null
})

export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!
}
