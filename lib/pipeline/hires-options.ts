import { FluxError } from '../errors.js'
import { requireOneOf, requireOptions, requirePath } from '../options/checks.js'
import { RANGES, requireInRange } from '../options/ranges.js'
import { requireStrength, sigmasAtStrength, type StrengthRule } from '../sampling/strength.js'

/** Draws small first, enlarges the result, and refines it from noise: more detail than one run at the large size. */
export interface HiresOptions {
  /**
   * times the size of the first pass, from 1; sides are rounded to multiples of 16. @default 2, without `width` and
   * `height`
   */
  scale?: number
  /** of the result in pixels, at least that of the first pass, a multiple of 16, at most 4096. In place of `scale` */
  width?: number
  height?: number
  /** how much of the enlarged image changes, above 0, up to 1; `convention` says by whose rule. @default 0.5 */
  strength?: number
  /** that `strength` is a part of, 1 to 1000. @default those of the first pass */
  steps?: number
  /**
   * 'latent': bilinear, as ComfyUI's LatentUpscale, costs nothing; 'image': decoded, enlarged by Lanczos and encoded,
   * sharper at a low strength. Another aspect is cut off equally on two sides. @default 'latent', with `upscaler` 'image'
   */
  upscale?: 'latent' | 'image'
  /**
   * enlarges the image in place of Lanczos: the file of an RRDBNet (ESRGAN, Real-ESRGAN), or 'hf:owner/name:file'. Its
   * result is brought to the size by Lanczos
   */
  upscaler?: string
}

/** The options, checked and with defaults, and the second pass. */
export interface HiresSettings {
  strength: number
  upscale: 'latent' | 'image'
  /** a path */
  upscaler: string | undefined
  /** the options as they were given */
  given: HiresOptions
  width: number
  height: number
  /** the noise levels of the second pass */
  sigmas: number[]
}

/** what a hires pass starts from */
interface FirstPass {
  width: number
  height: number
  /** its number of steps */
  steps: number
  convention: StrengthRule
  /** sides are multiples of this */
  unit: number
  /** noise levels for a size */
  sigmasOf: (size: { width: number; height: number }) => (steps: number) => number[]
}

/** @throws {FluxError} FLUX_BAD_OPTION */
export function completeHires(
  hires: HiresOptions,
  { width, height, steps: firstSteps, convention, unit, sigmasOf }: FirstPass,
): HiresSettings {
  requireOptions('hires', hires, ['scale', 'width', 'height', 'strength', 'steps', 'upscale', 'upscaler'])
  const { scale = 2, strength = 0.5, steps = firstSteps, upscaler } = hires
  const { upscale = upscaler === undefined ? 'latent' : 'image' } = hires
  requireInRange('hires.scale', scale, RANGES.hiresScale)
  requireStrength('hires.strength', strength)
  requireInRange('hires.steps', steps, RANGES.steps)
  requireOneOf('hires.upscale', upscale, ['latent', 'image'])
  if (upscaler !== undefined) requirePath('hires.upscaler', upscaler, 'the path of a file, or hf:owner/name:file')
  if (upscaler !== undefined && upscale === 'latent')
    throw new FluxError(
      'FLUX_BAD_OPTION',
      "hires.upscaler is given, but hires.upscale is 'latent', and it enlarges images: take 'image', or leave one out",
    )
  const sized = hires.width !== undefined || hires.height !== undefined
  if (sized && hires.scale !== undefined)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `hires.scale is ${hires.scale}, next to a width or height: give one or the other`,
    )
  const times = (side: number) => unit * Math.round((side * scale) / unit)
  const size = sized
    ? { width: hires.width as number, height: hires.height as number }
    : { width: times(width), height: times(height) }
  requireInRange('hires.width', size.width, { ...RANGES.width, least: width, unit })
  requireInRange('hires.height', size.height, { ...RANGES.height, least: height, unit })
  return {
    strength,
    upscale,
    upscaler,
    given: hires,
    ...size,
    sigmas: sigmasAtStrength(sigmasOf(size), steps, strength, convention, 'hires.strength'),
  }
}
