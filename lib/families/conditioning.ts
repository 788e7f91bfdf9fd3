/** The encoded prompt, as the denoiser receives it. Only its own family reads it. */
export interface Conditioning<Name extends string = string> {
  tensors: Record<Name, Float32Array>
  /** the encoded images of the request */
  images?: unknown
  /** names of the text encoders that received only the beginning of the prompt */
  truncated: string[]
}
