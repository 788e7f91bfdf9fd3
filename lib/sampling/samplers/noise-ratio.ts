/**
 * Noise level that the samplers below start from instead of 1. At 1 the ratio of noise to image is infinite. It is
 * ComfyUI's level at 0.01 % of a run with mu 1.15, and used at every mu.
 */
const FIRST = 0.9999683341591349

/**
 * Replaces a first noise level of 1, for the model as well.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`offset_first_sigma_for_snr`).
 */
export function belowPureNoise(sigmas: readonly number[]): number[] {
  return sigmas.map((sigma) => Math.min(sigma, FIRST))
}

/** Returns the ratio of noise to image at a noise level of rectified flow. */
export function noiseRatio(sigma: number): number {
  return sigma / (1 - sigma)
}

/** Returns the factors of state, estimate and new noise in a first-order step of the reverse diffusion process. */
export function diffusionStep(sigma: number, next: number): { state: number; denoised: number; noise: number } {
  const ratio = noiseRatio(next) / noiseRatio(sigma)
  return {
    state: ((1 - next) / (1 - sigma)) * ratio ** 2,
    denoised: (1 - next) * (1 - ratio ** 2),
    noise: next * Math.sqrt(1 - ratio ** 2),
  }
}
