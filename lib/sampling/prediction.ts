import { addScaled } from './samplers.js'

/** What a network's output means: how state and noise level become its input, and how its output becomes an estimate of the image. */
export interface Prediction {
  /** the state as the network takes it */
  scaleInput(x: Float32Array, sigma: number): Float32Array
  /** the noise level as the network takes it */
  timestep(sigma: number): number
  /** the image as the network sees it in the state `x` */
  denoised(x: Float32Array, output: Float32Array, sigma: number): Float32Array
  /** dx/dsigma, which is (x - denoised) / sigma; of its own because for most networks it is the output itself, exactly and at sigma 0 too */
  derivative(x: Float32Array, output: Float32Array, sigma: number): Float32Array
}

/** Rectified flow: x = (1 - sigma) image + sigma noise, the output is the velocity noise - image. */
export const flow: Prediction = {
  scaleInput: (x) => x,
  timestep: (sigma) => sigma,
  denoised: (x, velocity, sigma) => addScaled(x, velocity, -sigma),
  derivative: (_, velocity) => velocity,
}
