import { fileURLToPath } from 'node:url'
import type { ModelFiles } from '../families/registry.js'
import { outsideArchive } from '../native/locate.js'

// the native side maps weights itself, so it cannot read inside an archive
const path = (name: string) => outsideArchive(fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url)))

/**
 * The model that is included in the package, models/tiny. It has FLUX.1's structure and is trained on simple shapes.
 * Its model card describes what it can draw and how it was made.
 */
export function tinyModelFiles(): ModelFiles {
  const [transformer, t5, clip, vae] = [
    path('transformer.gguf'),
    path('t5.gguf'),
    path('clip.gguf'),
    path('vae.safetensors'),
  ]
  return { transformer, t5, clip, vae, tokenizers: { clip: path('') } }
}

/** Files for the tiny model that are included in the package, by name: a ControlNet that follows outlines. */
const ADDITIONS: Record<string, string> = { 'tiny-outline': 'outline.gguf' }

/** The path of a file in the package, by its name. Returns undefined for other names. */
export function bundledFile(name: string): string | undefined {
  return Object.hasOwn(ADDITIONS, name) ? path(ADDITIONS[name]!) : undefined
}
