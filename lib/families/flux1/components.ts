import {
  Autoencoder,
  ClipTextEncoder,
  ClipVisionEncoder,
  FluxTransformer,
  ReduxProjector,
  SiglipVisionEncoder,
  T5Encoder,
  TinyDecoder,
} from '../../nn.js'
import { CLIP_TOKENIZER_FILES, ClipTokenizer } from '../../tokenizers/clip.js'
import { T5_TOKENIZER_FILES, T5Tokenizer } from '../../tokenizers/t5.js'
import type { Components } from '../family.js'

export const FLUX_COMPONENTS = {
  transformer: {
    kind: 'flux',
    network: FluxTransformer,
    stage: 'denoise',
    required: true,
    title: 'the transformer',
    hubFolder: 'transformer',
  },
  t5: {
    kind: 't5',
    network: T5Encoder,
    stage: 'text',
    required: true,
    title: 'the T5-XXL text encoder',
    label: 'T5 encoder',
    hubFolder: 'text_encoder_2',
    tokenizer: {
      title: "T5's tokenizer (default: inside its GGUF file, or next to it)",
      folder: 'tokenizer_2',
      files: T5_TOKENIZER_FILES,
      inside: 'tokenizer.ggml.tokens',
      load: T5Tokenizer.load,
    },
  },
  clip: {
    kind: 'clip',
    network: ClipTextEncoder,
    stage: 'text',
    required: true,
    title: 'the CLIP-L text encoder',
    label: 'CLIP encoder',
    hubFolder: 'text_encoder',
    tokenizer: {
      title: "CLIP's tokenizer (default: next to its file)",
      folder: 'tokenizer',
      files: CLIP_TOKENIZER_FILES,
      load: ClipTokenizer.load,
    },
  },
  vae: {
    kind: 'autoencoder',
    network: Autoencoder,
    stage: 'decode',
    required: true,
    title: 'the autoencoder',
    hubFolder: 'vae',
  },
  siglip: {
    kind: 'siglip',
    network: SiglipVisionEncoder,
    stage: 'image',
    required: false,
    title: "SigLIP's vision tower, for --redux-image",
    label: 'SigLIP vision tower',
  },
  redux: {
    kind: 'redux',
    network: ReduxProjector,
    stage: 'image',
    required: false,
    title: "Redux's projector, for --redux-image",
    label: 'Redux projector',
  },
  clipVision: {
    kind: 'clip-vision',
    network: ClipVisionEncoder,
    stage: 'image',
    required: false,
    title: "CLIP's vision tower, for --ip-adapter",
    label: 'CLIP vision tower',
  },
  previewDecoder: {
    kind: 'tiny-decoder',
    network: TinyDecoder,
    stage: 'preview',
    required: false,
    title: "TAEF1's decoder, for --preview-method taef1",
  },
} as const satisfies Components

export type Flux1Components = typeof FLUX_COMPONENTS
