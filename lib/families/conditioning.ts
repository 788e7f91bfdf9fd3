/** The encoded prompt, as the denoiser receives it. Only its own family reads it. */
export interface Conditioning<Name extends string = string> {
  tensors: Record<Name, Float32Array>
  /** names of the text encoders that received only the beginning of the prompt */
  truncated: string[]
}
