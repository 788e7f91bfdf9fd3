import { basename } from 'node:path'
import { denoiserOf } from '../families/family.js'
import { formatParameters } from '../images/infotext.js'
import type { Settings } from './generate-options.js'
import type { HiresSettings } from './hires-options.js'
import type { CompleteModel } from './open-model.js'

/** A1111's names */
const HIRES_UPSCALERS: Record<HiresSettings['upscale'], string> = { latent: 'Latent', image: 'Lanczos' }

/**
 * Formats how an image is made as text, in A1111's form. `readParameters` restores the options from it. What has no name in
 * A1111 is recorded where it differs from the defaults.
 *
 * @param settings with the size to record: that of the result, or the requested one if only a part is drawn
 */
export function parametersOf(settings: Settings, { family, networks, variant }: CompleteModel): string {
  const { defaults } = variant
  const { prompt, negativePrompt, steps, sampler, scheduler, guidance, seed, width, height } = settings
  const { trueCfg, variation, hires, images, loras } = settings
  const image = images?.image === undefined ? undefined : images
  const sized = hires?.given.width !== undefined
  const { controlNets = [], ipAdapters = [] } = images ?? {}
  return formatParameters({
    ...{ prompt, negativePrompt, trueCfg: trueCfg?.scale, steps, sampler, scheduler, guidance, seed, width, height },
    model: nameOf(networks[denoiserOf(family)]!.file.path),
    extra: {
      'Variation seed': variation?.seed,
      'Variation seed strength': variation?.strength,
      'Denoising strength': hires?.strength ?? (scheduler === 'custom' ? undefined : image?.strength),
      'Strength convention': (hires || image) && settings.convention === 'comfyui' ? 'comfyui' : undefined,
      'Hires upscale': hires && !sized ? (hires.given.scale ?? 2) : undefined,
      'Hires resize': sized ? `${hires.width}x${hires.height}` : undefined,
      'Hires steps': hires?.given.steps,
      'Hires upscaler': hires && (hires.upscaler ? nameOf(hires.upscaler) : HIRES_UPSCALERS[hires.upscale]),
      'CFG start': trueCfg?.start,
      'CFG end': trueCfg?.end,
      'CFG zero star': trueCfg?.zeroStar,
      'CFG zero init steps': trueCfg?.zeroInitSteps,
      Shift: unless(String(defaults.shift), String(settings.shift)),
      'Noise type': unless('float32', settings.noise),
      'Prompt weights': settings.promptWeights ? 'true' : undefined,
      'Max sequence length': unless(defaults.maxSequenceLength, settings.maxSequenceLength),
      'Step cache': settings.stepCache || undefined,
      LoRA: loras.map(({ path, scale = 1 }) => `${nameOf(path)} ${scale}`).join(' + ') || undefined,
      ...numbered('ControlNet', controlNets, ({ path, scale, start, end, mode }) => [
        ...['Module: None', `Model: ${nameOf(path)}`, `Weight: ${scale}`],
        ...[`Guidance Start: ${start}`, `Guidance End: ${end}`],
        ...(mode === undefined ? [] : [`Union Mode: ${mode}`]),
      ]),
      ...numbered('IP-Adapter', ipAdapters, ({ path, scale }) => [`Model: ${nameOf(path)}`, `Weight: ${scale}`]),
    },
  })
}

function unless<T>(usual: T, value: T): T | undefined {
  return value === usual ? undefined : value
}

/** `ControlNet 0`, `ControlNet 1`, … */
function numbered<T>(name: string, list: readonly T[], parts: (one: T) => string[]): Record<string, string> {
  return Object.fromEntries(list.map((one, i) => [`${name} ${i}`, parts(one).join(', ')]))
}

/** A file's name without folder and suffix; of a reference, the file in the repository. */
function nameOf(path: string): string {
  return basename(path).replace(/\.(gguf|safetensors|sft)$/i, '')
}
