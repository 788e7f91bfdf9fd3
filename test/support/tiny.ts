import { join } from 'node:path'
import type { ModelFiles } from '../../lib/families/registry.js'
import type { Encoders } from '../../lib/families/family.js'
import type { Flux1Components } from '../../lib/families/flux1/components.js'
import type { OpenModel } from '../../lib/pipeline/open-model.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { nativeQuantize } from '../../lib/native/addon.js'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import { FluxPipeline, type ImageEvent, type LoadOptions } from '../../lib/pipeline/pipeline.js'
import { collect } from './async.js'
import { onTestBackend } from './backend.js'

/** the smallest picture, in its shortest way */
export const SMALL = {
  prompt: 'a red fox',
  width: 64,
  height: 64,
  steps: 1,
  seed: 1,
  maxSequenceLength: 16,
  format: 'raw',
} as const

export function loadTiny(options: LoadOptions = {}): Promise<FluxPipeline> {
  return FluxPipeline.load('tiny', { ...onTestBackend, ...options })
}

/** Those of a FLUX.1 model. */
export function tokenizersOf({ tokenizers }: OpenModel): Encoders<Flux1Components>['tokenizers'] {
  return tokenizers as Encoders<Flux1Components>['tokenizers']
}

/** A model of random weights whose parts go together; it has the defaults of FLUX.1 dev. */
export async function randomModel(folder: string): Promise<ModelFiles> {
  const path = (name: string) => join(folder, name)
  const files = {
    transformer: path('transformer.gguf'),
    t5: path('t5.gguf'),
    clip: path('clip.safetensors'),
    vae: path('vae.safetensors'),
  }
  const quantize = nativeQuantize
  await synthesize({ architecture: 'flux-tiny', type: 'Q8_0', seed: 1, path: files.transformer, quantize })
  await synthesize({ architecture: 't5-tiny', type: 'Q8_0', seed: 2, path: files.t5, quantize })
  await synthesize({ architecture: 'clip-tiny', type: 'F16', seed: 3, path: files.clip })
  await synthesize({ architecture: 'autoencoder-tiny', type: 'F16', seed: 4, path: files.vae })
  return files
}

export async function streamed(pipe: FluxPipeline, options: GenerateOptions): Promise<ImageEvent> {
  return (await collect(pipe.stream(options))).at(-1) as ImageEvent
}
