import { VERSION } from '../version.js'

export interface GenerationParameters {
  prompt: string
  negativePrompt?: string | undefined
  steps: number
  sampler: string
  scheduler: string
  /** the distilled guidance; absent for models without it */
  guidance?: number | undefined
  /** scale of true classifier-free guidance. @default 1, which means none */
  trueCfg?: number | undefined
  seed: number
  width: number
  height: number
  model?: string | undefined
  /** additional fields by the names that readers know, such as `Denoising strength` */
  extra?: Record<string, string | number | undefined>
}

/**
 * Formats how an image was generated, in the form that A1111, Forge, ComfyUI's readers and galleries understand: the
 * prompt, then `Negative prompt: …` if there is one, then one line `Steps: 4, Sampler: Euler, …`. Values with a comma,
 * colon or line break are quoted as JSON strings.
 *
 * Source: AUTOMATIC1111/stable-diffusion-webui `modules/processing.py` (`create_infotext`), `modules/infotext_utils.py`
 * (`quote`); `Distilled CFG Scale` is Forge's name for the guidance.
 */
export function formatParameters(parameters: GenerationParameters): string {
  const {
    prompt,
    negativePrompt,
    steps,
    sampler,
    scheduler,
    guidance,
    trueCfg = 1,
    seed,
    width,
    height,
    model,
    extra,
  } = parameters
  const fields = {
    Steps: steps,
    Sampler: titleCase(sampler),
    'Schedule type': titleCase(scheduler),
    'CFG scale': trueCfg,
    'Distilled CFG Scale': guidance,
    Seed: seed,
    Size: `${width}x${height}`,
    Model: model,
    ...extra,
    Version: `ggflux ${VERSION}`,
  }
  const settings = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${quote(String(value))}`)
  const negative = negativePrompt ? `\nNegative prompt: ${negativePrompt}` : ''
  return `${prompt}${negative}\n${settings.join(', ')}`.trim()
}

function quote(value: string): string {
  return /[,:\n]/.test(value) ? JSON.stringify(value) : value
}

function titleCase(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1)
}
