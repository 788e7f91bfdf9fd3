/** One file of a whole model. Without a type, it has the requested type. */
export interface ModelFileRecipe {
  architecture: string
  file: string
  type?: 'Q8_0' | 'F16' | 'F32'
}

const encoders = (t5: string, clip: string, vae: string): ModelFileRecipe[] => [
  { architecture: t5, file: 't5.gguf', type: 'Q8_0' },
  { architecture: clip, file: 'clip.safetensors', type: 'F16' },
  { architecture: vae, file: 'vae.safetensors', type: 'F32' },
]

/** Networks that make an image together, in the most common types. */
export const MODELS: Record<'flux-dev' | 'flux-schnell' | 'flux-tiny', ModelFileRecipe[]> = {
  'flux-dev': [{ architecture: 'flux-dev', file: 'transformer.gguf' }, ...encoders('t5-xxl', 'clip-l', 'autoencoder')],
  'flux-schnell': [
    { architecture: 'flux-schnell', file: 'transformer.gguf' },
    ...encoders('t5-xxl', 'clip-l', 'autoencoder'),
  ],
  'flux-tiny': [
    { architecture: 'flux-tiny', file: 'transformer.gguf' },
    ...encoders('t5-tiny', 'clip-tiny', 'autoencoder-tiny'),
  ],
}
