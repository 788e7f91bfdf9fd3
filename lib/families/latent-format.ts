type Rgb = readonly [red: number, green: number, blue: number]

/** A linear fit to an autoencoder: a colour, from -1 to 1, is the sum of the channels times `factors`, plus `bias`. */
export interface LatentRgb {
  /** one for each channel of the latent */
  factors: readonly Rgb[]
  bias: Rgb
}

/** The latent space that a family works in. */
export interface LatentFormat {
  channels: number
  /** pixels per latent along each side */
  reduction: number
  /** width and height of an image must be multiples of this */
  sizeMultiple: number
  /** The autoencoder decodes `latent / scale + shift`. It is loaded with both values and applies them itself. */
  scale: number
  shift: number
  /** for the preview method 'linear' */
  rgbFactors: LatentRgb
  /** the preview method that uses the family's preview decoder */
  previewDecoder?: 'taef1'
  /** converts a latent [channels, rows, columns] to the sampler's state */
  toState(latent: Float32Array, rows: number, columns: number): Float32Array
  /** the inverse of `toState` */
  toLatent(state: Float32Array, rows: number, columns: number): Float32Array
}
