import { addScaled } from './samplers.js'

/** How a network's input is computed from state and noise level, and how its output gives an estimate of the image. */
export interface Prediction {
  /** the state in the form that the network expects */
  scaleInput(x: Float32Array, sigma: number): Float32Array
  /** the noise level in the form that the network expects */
  timestep(sigma: number): number
  /** the state at a noise level: the image with noise of standard deviation 1 mixed in */
  noised(image: Float32Array, noise: Float32Array, sigma: number): Float32Array
  /** the image as the network predicts it from the state `x` */
  denoised(x: Float32Array, output: Float32Array, sigma: number): Float32Array
  /**
   * dx/dsigma = (x - denoised) / sigma; a separate method, because for most networks it equals the output, at sigma 0
   * as well
   */
  derivative(x: Float32Array, output: Float32Array, sigma: number): Float32Array
}

/** Rectified flow: x = (1 - sigma) image + sigma noise; the output is the velocity noise - image. */
export const flow: Prediction = {
  scaleInput: (x) => x,
  timestep: (sigma) => sigma,
  noised: (image, noise, sigma) => image.map((value, i) => (1 - sigma) * value + sigma * noise[i]!),
  denoised: (x, velocity, sigma) => addScaled(x, velocity, -sigma),
  derivative: (_, velocity) => velocity,
}
