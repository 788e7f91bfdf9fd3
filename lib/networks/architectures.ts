import type { AutoencoderConfig } from './autoencoder/layout.js'
import type { ClipConfig } from './clip/layout.js'
import type { FluxConfig } from './flux/layout.js'
import type { T5Config } from './t5/layout.js'
import type { TinyDecoderConfig } from './taesd/layout.js'

export type Architecture =
  | { kind: 'flux'; config: FluxConfig }
  | { kind: 't5'; config: T5Config }
  | { kind: 'clip'; config: ClipConfig }
  | { kind: 'autoencoder'; config: AutoencoderConfig }
  | { kind: 'tiny-decoder'; config: TinyDecoderConfig }

const flux: FluxConfig = {
  inChannels: 64,
  outChannels: 64,
  hiddenSize: 3072,
  numHeads: 24,
  depth: 19,
  depthSingleBlocks: 38,
  contextInDim: 4096,
  vecInDim: 768,
  guidanceEmbed: true,
  axesDim: [16, 56, 56],
  theta: 10000,
}

const t5: T5Config = {
  dModel: 4096,
  dKv: 64,
  numHeads: 64,
  dFf: 10240,
  numLayers: 24,
  vocabSize: 32128,
  numBuckets: 32,
  maxDistance: 128,
}

const clip: ClipConfig = {
  hiddenSize: 768,
  numHeads: 12,
  numLayers: 12,
  intermediateSize: 3072,
  vocabSize: 49408,
  maxPositions: 77,
}

const autoencoder: AutoencoderConfig = {
  ch: 128,
  chMult: [1, 2, 4, 4],
  numResBlocks: 2,
  zChannels: 16,
  scaleFactor: 0.3611,
  shiftFactor: 0.1159,
  hasEncoder: true,
  hasDecoder: true,
}

/**
 * Networks by name: those of FLUX.1 (black-forest-labs/flux `src/flux/util.py`; google/t5-v1_1-xxl and openai/clip-vit-large-patch14 on
 * huggingface.co) and tiny ones of the same structure that go together.
 */
export const ARCHITECTURES = {
  'flux-dev': { kind: 'flux', config: flux },
  'flux-schnell': { kind: 'flux', config: { ...flux, guidanceEmbed: false } },
  'flux-fill': { kind: 'flux', config: { ...flux, inChannels: 384 } },
  'flux-canny': { kind: 'flux', config: { ...flux, inChannels: 128 } },
  'flux-tiny': {
    kind: 'flux',
    config: { ...flux, hiddenSize: 256, numHeads: 2, depth: 2, depthSingleBlocks: 2, contextInDim: 256, vecInDim: 128 },
  },
  't5-xxl': { kind: 't5', config: t5 },
  't5-tiny': {
    kind: 't5',
    config: { ...t5, dModel: 256, dKv: 32, numHeads: 8, dFf: 512, numLayers: 3, vocabSize: 512 },
  },
  'clip-l': { kind: 'clip', config: clip },
  'clip-tiny': {
    kind: 'clip',
    config: { ...clip, hiddenSize: 128, numHeads: 2, numLayers: 3, intermediateSize: 512, vocabSize: 600 },
  },
  autoencoder: { kind: 'autoencoder', config: autoencoder },
  taef1: { kind: 'tiny-decoder', config: { zChannels: 16, width: 64 } },
  'autoencoder-tiny': { kind: 'autoencoder', config: { ...autoencoder, ch: 32 } },
} as const satisfies Record<string, Architecture>

export type ArchitectureName = keyof typeof ARCHITECTURES

/** One file of a whole model; without a type it has the one that is asked for. */
export interface ModelPart {
  architecture: ArchitectureName
  file: string
  type?: 'Q8_0' | 'F16' | 'F32'
}

const encoders = (t5: ArchitectureName, clip: ArchitectureName, vae: ArchitectureName): ModelPart[] => [
  { architecture: t5, file: 't5.gguf', type: 'Q8_0' },
  { architecture: clip, file: 'clip.safetensors', type: 'F16' },
  { architecture: vae, file: 'vae.safetensors', type: 'F32' },
]

/** Networks that make a picture together, in the types that people mostly have. */
export const MODELS: Record<'flux-dev' | 'flux-schnell' | 'flux-tiny', ModelPart[]> = {
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
