type Rgb = readonly [red: number, green: number, blue: number]

/** A linear fit to an autoencoder: colour, from -1 to 1, is the sum of `factors` times the channels, and `bias`. */
export interface LatentRgb {
  /** one for each channel of the latent */
  factors: readonly Rgb[]
  bias: Rgb
}

/** The space that a family draws in. */
export interface LatentFormat {
  channels: number
  /** pixels for a latent, on a side */
  reduction: number
  /** what width and height of an image are multiples of */
  sizeMultiple: number
  /** The autoencoder decodes `latent / scale + shift`; it is loaded with both, and applies them itself. */
  scale: number
  shift: number
  /** of the preview method 'linear' */
  rgbFactors: LatentRgb
  /** the preview method that the family's preview decoder serves */
  previewDecoder?: 'taef1'
  /** latent [channels, rows, columns] to what the sampler works on */
  toState(latent: Float32Array, rows: number, columns: number): Float32Array
  /** the inverse of `toState` */
  toLatent(state: Float32Array, rows: number, columns: number): Float32Array
}
