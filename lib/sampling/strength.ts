import { FluxError } from '../errors.js'
import { badOption, requireOneOf, requireWhole } from '../options/checks.js'

/**
 * How a strength becomes noise levels. 'diffusers': the last steps of the list, about steps * strength. 'comfyui'
 * (`denoise`): always `steps` steps, the last ones of a longer list.
 */
export type StrengthRule = 'diffusers' | 'comfyui'

export const STRENGTH_RULES = ['diffusers', 'comfyui'] as const satisfies readonly StrengthRule[]

/** ComfyUI takes the whole list above this strength. */
const WHOLE = 0.9999
/** of the longer list; ComfyUI's table has no more levels */
const MOST_STEPS = 10_000

/**
 * Returns the noise levels of a run that starts from an image instead of pure noise. The run starts from
 * sigmas[0] * noise + (1 - sigmas[0]) * image.
 *
 * Source: huggingface/diffusers `FluxImg2ImgPipeline.get_timesteps`; Comfy-Org/ComfyUI `comfy/samplers.py`
 * (`KSampler.set_steps`). The official demo rounds differently at exact products, such as 0.8 of 5 steps.
 *
 * @param sigmasOf from a number of steps to noise levels, such as `schedule`
 * @param steps 1 to 10,000
 * @param strength above 0 (the image stays as it is) up to 1 (pure noise)
 * @param name of the strength in messages
 * @throws FluxError FLUX_BAD_OPTION for steps or a strength out of range, or a strength that leaves no step
 */
export function sigmasAtStrength(
  sigmasOf: (steps: number) => number[],
  steps: number,
  strength: number,
  rule: StrengthRule = 'diffusers',
  name = 'strength',
): number[] {
  if (typeof sigmasOf !== 'function')
    throw badOption('sigmasOf', sigmasOf, 'a function from a number of steps to noise levels')
  requireWhole('steps', steps, 1, MOST_STEPS)
  requireStrength(name, strength)
  requireOneOf('the rule of strength', rule, STRENGTH_RULES)
  if (rule === 'comfyui') {
    if (strength > WHOLE) return sigmasOf(steps)
    const total = Math.trunc(steps / strength)
    if (total > MOST_STEPS) {
      const least = Math.min(1, steps / MOST_STEPS)
      throw badOption(name, strength, `at least ${least} for ${steps} steps`)
    }
    return sigmasOf(total).slice(-(steps + 1))
  }
  const start = Math.trunc(Math.max(steps - Math.min(steps * strength, steps), 0))
  const sigmas = sigmasOf(steps).slice(start)
  if (sigmas.length < 2)
    throw new FluxError('FLUX_BAD_OPTION', `${name} is ${strength}, which leaves none of ${steps} steps: give more`)
  return sigmas
}

/** @throws FluxError FLUX_BAD_OPTION */
export function requireStrength(name: string, strength: number): void {
  if (typeof strength !== 'number' || !(strength > 0 && strength <= 1))
    throw badOption(name, strength, 'a number above 0, which keeps the image, up to 1, which ignores it')
}
