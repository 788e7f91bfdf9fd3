import { gaussianNoiseStream, type NoiseVariant } from './noise.js'
import { combine } from './samplers/combine.js'
import type { SamplerInput } from './samplers/sampler.js'

export interface StepNoiseOptions {
  /** seed of the image */
  seed: number
  /** of the latent, at least 16 values */
  shape: readonly number[]
  /** number format in which the noise is drawn. @default 'float32' */
  variant?: NoiseVariant
  /** brings noise into the form of the sampler's state. @default unchanged */
  toState?: (noise: Float32Array) => Float32Array
}

/**
 * Returns the noise that a sampler adds during a run: consecutive draws of torch's generator on the CPU with the next
 * seed, so that no draw repeats the noise that the run starts from.
 *
 * ComfyUI draws the same numbers for `euler_ancestral`, `lcm` and `er_sde` when it runs on the CPU (versions
 * after 0.3.64, which repeats the start noise). On a GPU it draws others. For `dpmpp_sde` and `dpmpp_2m_sde` its
 * numbers come from a Brownian tree. This noise then has the same distribution, but other values.
 *
 * Noises of steps from one level are increments of one Brownian path, as in ComfyUI: the noise for the way to the
 * middle of a step is part of the noise for the whole step.
 */
export function stepNoise({
  seed,
  shape,
  variant,
  toState = (noise) => noise,
}: StepNoiseOptions): SamplerInput['noise'] {
  let draw: (() => Float32Array) | undefined
  let last: { sigma: number; next: number; noise: Float32Array } | undefined
  return (sigma, next) => {
    // torch uses the low 32 bits of a seed
    draw ??= gaussianNoiseStream((seed + 1) % 2 ** 32, shape, variant)
    let noise = toState(draw())
    if (last?.sigma === sigma && last.next > next) {
      const known = (sigma - last.next) / (sigma - next)
      noise = combine([Math.sqrt(known), last.noise], [Math.sqrt(1 - known), noise])
    }
    last = { sigma, next, noise }
    return noise
  }
}
