/** What the denoiser is given of the prompt; only its family reads it. */
export interface Conditioning<Name extends string = string> {
  tensors: Record<Name, Float32Array>
  /** names of the text encoders that saw only the beginning of the prompt */
  truncated: string[]
}
