import { fileURLToPath } from 'node:url'
import type { ModelFiles } from '../families/registry.js'

/**
 * The model that is included in the package, models/tiny. It has FLUX.1's structure and is trained on simple shapes.
 * Its model card describes what it can draw and how it was made.
 */
export function tinyModelFiles(): ModelFiles {
  const path = (name: string) => fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url))
  const [transformer, t5, clip, vae] = [
    path('transformer.gguf'),
    path('t5.gguf'),
    path('clip.gguf'),
    path('vae.safetensors'),
  ]
  return { transformer, t5, clip, vae, tokenizers: { clip: path('') } }
}
