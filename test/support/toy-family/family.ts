import { FluxError } from '../../../lib/errors.js'
import type { Conditioning } from '../../../lib/families/conditioning.js'
import type { Components, Family } from '../../../lib/families/family.js'
import type { LatentFormat } from '../../../lib/families/latent-format.js'
import { imageIds } from '../../../lib/families/flux1/tokens.js'
import { flopsOf } from '../../../lib/networks/network-file.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, type FluxConfig } from '../../../lib/nn.js'
import type { Prediction } from '../../../lib/sampling/prediction.js'
import { CLIP_TOKENIZER_FILES, ClipTokenizer } from '../../../lib/tokenizers/clip.js'

/** Other names, one text encoder, and a decoder of 4-fold reduction. */
const COMPONENTS = {
  unet: {
    kind: 'flux',
    network: FluxTransformer,
    stage: 'denoise',
    required: true,
    title: 'the denoiser of the toy family',
    hubFolder: 'unet',
  },
  clip: {
    kind: 'clip',
    network: ClipTextEncoder,
    stage: 'text',
    required: true,
    title: 'the only text encoder',
    hubFolder: 'text_encoder',
    tokenizer: {
      title: 'its tokenizer',
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
} as const satisfies Components

/** Not packed: the state is the latent with its channels last. */
export const TOY_LATENT: LatentFormat = {
  channels: 4,
  reduction: 4,
  sizeMultiple: 4,
  scale: 0.5,
  shift: 0.1,
  rgbFactors: {
    factors: [
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
      [0, 0, 0],
    ],
    bias: [0, 0, 0],
  },
  toState: (latent, rows, columns) => transposed(latent, 4, rows * columns),
  toLatent: (state, rows, columns) => transposed(state, rows * columns, 4),
}

/** [rows, columns] to [columns, rows] */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!)
}

/** The network's output is the image itself. */
const image: Prediction = {
  scaleInput: (x) => x,
  timestep: (sigma) => sigma,
  noised: (image, noise, sigma) => image.map((value, i) => value + sigma * noise[i]!),
  denoised: (_, output) => output,
  derivative: (x, output, sigma) => x.map((value, i) => (value - output[i]!) / sigma),
}

export const toyFamily: Family<typeof COMPONENTS> = {
  id: 'toy',
  title: 'the toy family',
  components: COMPONENTS,
  recognise: ({ config }) => (config as FluxConfig).inChannels === TOY_LATENT.channels,
  incompatibilities({ unet, clip }) {
    if (!unet || !clip || unet.config.contextInDim === clip.config.hiddenSize) return []
    return [new FluxError('FLUX_BAD_FILE', `${clip.file.path} does not go with ${unet.file.path}`)]
  },
  variant: () => ({
    defaults: { width: 72, height: 64, steps: 3, guidance: undefined, shift: false, maxSequenceLength: 77 },
    latent: TOY_LATENT,
    warnings: ['the toy family draws noise'],
  }),
  prediction: image,
  sigmas: ({ steps }) => Array.from({ length: steps + 1 }, (_, i) => (1 - i / steps) ** 2),
  async encode(requests, { tokenizers, run }): Promise<Conditioning<'hidden' | 'pooled'>[]> {
    const prompts = requests.map(({ prompt }) => tokenizers.clip.encode(prompt))
    const pooled: Float32Array[] = []
    const hidden = await run('clip', prompts, async (clip, { ids, eos }, options) => {
      const states = await clip.encode(ids, { eos, ...options })
      pooled.push(states.pooled)
      return states.hidden
    })
    return prompts.map(({ truncated }, i) => ({
      tensors: { hidden: hidden[i]!, pooled: pooled[i]! },
      truncated: truncated ? ['clip'] : [],
    }))
  },
  bind(unet, { tensors }, { width, height }, signal) {
    const imgIds = imageIds(height / TOY_LATENT.reduction, width / TOY_LATENT.reduction)
    const { hidden: txt, pooled: vec } = tensors as Record<'hidden' | 'pooled', Float32Array>
    return (img, timestep) => unet.predict({ img, imgIds, txt, vec, timestep, signal })
  },
  operations({ unet, clip, vae }, { width, height }) {
    const latents = (width / TOY_LATENT.reduction) * (height / TOY_LATENT.reduction)
    return {
      text: flopsOf(clip, [clip.config.maxPositions]),
      step: flopsOf(unet, [latents, clip.config.maxPositions]),
      decode: flopsOf(vae, [height / TOY_LATENT.reduction, width / TOY_LATENT.reduction]),
    }
  },
  activationBytes({ unet, clip }, { width, height }, options) {
    const latents = (width / TOY_LATENT.reduction) * (height / TOY_LATENT.reduction)
    return FluxTransformer.activationBytes(unet.file.path, latents, clip.config.maxPositions, options)
  },
  presets: { models: { 'toy-1': 'hf:toy/toy' }, companions: {}, tokenizers: {}, files: {}, needs: {} },
}
