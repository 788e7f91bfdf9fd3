import { FluxError, type FluxErrorCode } from '../../errors.js'
import {
  Autoencoder,
  ClipVisionEncoder,
  FluxTransformer,
  ReduxProjector,
  SiglipVisionEncoder,
  type NetworkOptions,
} from '../../nn.js'
import { encodingFlops } from '../../networks/autoencoder/definition.js'
import type { ControlNetConfig } from '../../networks/controlnet/layout.js'
import { sumOf, timesFlops, type Flops } from '../../networks/flops.js'
import { flopsOf, type NetworkFile } from '../../networks/network-file.js'
import { patchCount } from '../../networks/vision.js'
import { flow } from '../../sampling/prediction.js'
import type { Family, ImageSize, NetworksOf } from '../family.js'
import type { ImageInputs } from '../image-inputs.js'
import { FLUX_COMPONENTS, type Flux1Components } from './components.js'
import { checkImages } from './check-images.js'
import { attachmentsOf, attachNetworks, bindTransformer, encodePrompts } from './conditioning.js'
import { encodeImages } from './image-tokens.js'
import { FLUX_LATENT } from './latent.js'
import { FLUX_PRESETS } from './presets.js'
import { fluxSigmas } from './schedule.js'
import { fluxVariant } from './variants.js'

/** The paths of a model's components. */
export interface Flux1Files {
  /** the transformer: `.gguf` or `.safetensors` */
  transformer: string
  /** the T5-XXL text encoder */
  t5: string
  /** the CLIP-L text encoder */
  clip: string
  /** the autoencoder */
  vae: string
  /** SigLIP's vision tower, for Redux @default none */
  siglip?: string
  /** Redux's projector @default none */
  redux?: string
  /** CLIP's vision tower with its projection, for IP-Adapters @default none */
  clipVision?: string
  /** TAEF1's decoder, for previews @default none */
  previewDecoder?: string
  /**
   * Files or folders of the tokenizers.
   * @default T5: the tokenizer in its GGUF file, otherwise `spiece.model` or `tokenizer.json` next to it or in the
   *   folder `tokenizer_2`; CLIP: `vocab.json` and `merges.txt`, or `tokenizer.json`, next to its file or in the folder
   *   `tokenizer`
   */
  tokenizers?: { t5?: string; clip?: string }
}

const { channels, reduction, sizeMultiple } = FLUX_LATENT
/** the number of values in an image token */
const TOKEN = channels * (sizeMultiple / reduction) ** 2

/** FLUX.1: black-forest-labs/flux. */
export const flux1: Family<Flux1Components> = {
  id: 'flux.1',
  title: 'FLUX.1',
  components: FLUX_COMPONENTS,
  recognise: () => true,
  incompatibilities,
  variant: ({ transformer }) => fluxVariant(transformer),
  prediction: flow,
  sigmas: fluxSigmas,
  encode: encodePrompts,
  checkImages,
  encodeImages,
  imageEncoders: (networks, inputs) => towersOf(networks, inputs).map(({ file }) => file),
  attach: attachNetworks,
  bind: bindTransformer,
  operations(networks, size) {
    const { transformer, t5, clip, vae } = networks
    const { width, height, maxSequenceLength, inputs = {}, attached = [] } = size
    const [image, text] = tokensOf(networks, size)
    const { controlNets = [] } = inputs
    return {
      text: sumOf([flopsOf(t5, [maxSequenceLength]), flopsOf(clip, [clip.config.maxPositions])]),
      encode: encodingOperations(networks, size),
      step: sumOf([
        flopsOf(transformer, [image, text]),
        ...attached.map((network, i) => {
          const { start, end } = controlNets[i] ?? { start: 0, end: 1 }
          const share = controlNets[i]?.scale === 0 ? 0 : end - start
          return timesFlops(share, flopsOf(network, [tokensIn([{ width, height }]), text]))
        }),
      ]),
      decode: flopsOf(vae, [height / reduction, width / reduction]),
    }
  },
  async activationBytes(networks, size, options) {
    const { transformer, vae } = networks
    const { width, height, inputs = {} } = size
    const [image, text] = tokensOf(networks, size)
    const area = ({ width, height }: { width: number; height: number }) => width * height
    const [largest] = encodedSizes(size).toSorted((a, b) => area(b) - area(a))
    const all = [
      await FluxTransformer.activationBytes(transformer.file.path, image, text, options, attachmentsOf(inputs)),
      await Autoencoder.activationBytes(vae.file.path, height / reduction, width / reduction, options),
    ]
    if (largest) all.push(await Autoencoder.encodingBytes(vae.file.path, largest.height, largest.width, options))
    for (const { activationBytes } of towersOf(networks, inputs)) all.push(await activationBytes(options))
    return Math.max(...all)
  },
  presets: FLUX_PRESETS,
}

const tokensIn = (sizes: readonly { width: number; height: number }[]): number =>
  sizes.reduce((sum, { width, height }) => sum + (width / sizeMultiple) * (height / sizeMultiple), 0)

/** The tokens that the transformer reads: of the image with its references, and of the text with Redux. */
function tokensOf(
  { siglip }: NetworksOf<Flux1Components>,
  { width, height, maxSequenceLength, inputs = {} }: ImageSize,
): [image: number, text: number] {
  const { references = [], redux = [] } = inputs
  const perImage = redux.length > 0 && siglip ? patchCount(siglip.config) : 0
  return [tokensIn([{ width, height }, ...references]), maxSequenceLength + redux.length * perImage]
}

function encodingOperations(networks: NetworksOf<Flux1Components>, size: ImageSize): Flops {
  const { vae } = networks
  return sumOf([
    ...encodedSizes(size).map(({ width, height }) =>
      encodingFlops(vae.config, [height / reduction, width / reduction]),
    ),
    ...towersOf(networks, size.inputs).map(({ file, shape, times }) => timesFlops(times, flopsOf(file, shape))),
  ])
}

/** The sizes of the images that the autoencoder encodes. */
function encodedSizes({
  width,
  height,
  inputs = {},
  attached = [],
  startsFromImage = false,
}: ImageSize): { width: number; height: number }[] {
  const { control, fill, references = [], controlNets = [] } = inputs
  const latents = attached.slice(0, controlNets.length).filter(({ config }) => !(config as ControlNetConfig).rgb)
  const count = Number(startsFromImage) + Number(control !== undefined) + Number(fill !== undefined) + latents.length
  return [...Array.from({ length: count }, () => ({ width, height })), ...references]
}

/** A network that encodes images of a request, as its definition takes it. */
interface Tower {
  file: NetworkFile<object>
  shape: number[]
  /** number of images */
  times: number
  activationBytes(options: NetworkOptions): Promise<number>
}

/** The vision towers, with Redux's projector, that a request needs. */
function towersOf(
  { siglip, redux: projector, clipVision }: NetworksOf<Flux1Components>,
  { redux = [], ipAdapters = [] }: ImageInputs = {},
): Tower[] {
  const towers: Tower[] = []
  if (redux.length > 0 && siglip && projector) {
    const patches = patchCount(siglip.config)
    towers.push(
      {
        ...{ file: siglip, shape: [], times: redux.length },
        activationBytes: (options) => SiglipVisionEncoder.activationBytes(siglip.file.path, options),
      },
      {
        ...{ file: projector, shape: [patches], times: redux.length },
        activationBytes: (options) => ReduxProjector.activationBytes(projector.file.path, patches, options),
      },
    )
  }
  if (ipAdapters.length > 0 && clipVision) {
    towers.push({
      ...{ file: clipVision, shape: [], times: ipAdapters.length },
      activationBytes: (options) => ClipVisionEncoder.activationBytes(clipVision.file.path, options),
    })
  }
  return towers
}

function incompatibilities({
  transformer,
  t5,
  clip,
  vae,
  previewDecoder,
}: Partial<NetworksOf<Flux1Components>>): FluxError[] {
  const found: FluxError[] = []
  if (!transformer) return found
  const { inChannels, outChannels, contextInDim, vecInDim } = transformer.config
  const refuse = ({ file: { path } }: NetworkFile<unknown>, message: string, code: FluxErrorCode = 'FLUX_BAD_FILE') => {
    found.push(new FluxError(code, `${path} ${message}`))
  }
  if (![1, 2, 6].includes(inChannels / TOKEN)) {
    const known = `dev, schnell and Kontext ${TOKEN}, Canny and Depth ${2 * TOKEN}, Fill ${6 * TOKEN}`
    refuse(transformer, `takes ${inChannels} channels; known are models with ${known}`, 'FLUX_UNSUPPORTED')
  }
  if (t5 && t5.config.dModel !== contextInDim) {
    const what = `gives states of width ${t5.config.dModel}, but the transformer takes ${contextInDim}`
    refuse(t5, `${what}; give the T5 encoder of this model (FLUX.1: T5 v1.1 XXL)`)
  }
  if (clip && clip.config.hiddenSize !== vecInDim) {
    const what = `gives a vector of ${clip.config.hiddenSize}, but the transformer takes ${vecInDim}`
    refuse(clip, `${what}; give the CLIP encoder of this model (FLUX.1: CLIP-L)`)
  }
  if (previewDecoder && 4 * previewDecoder.config.zChannels !== outChannels) {
    const what = `takes ${previewDecoder.config.zChannels} channels, and the transformer gives ${outChannels / 4}`
    refuse(previewDecoder, `${what}; give the decoder of TAEF1, or leave previewDecoder out`)
  }
  if (!vae) return found
  const { zChannels, chMult, hasDecoder } = vae.config
  if (zChannels !== channels || outChannels !== TOKEN || chMult.length !== 4) {
    const has = `has ${zChannels} channels in ${chMult.length} levels, and the transformer gives ${outChannels / 4}`
    refuse(vae, `${has}, where all should be ${channels} in 4 levels; give the autoencoder of FLUX.1 (ae.safetensors)`)
  } else if (!hasDecoder) refuse(vae, 'holds no decoder; give the complete autoencoder of FLUX.1 (ae.safetensors)')
  return found
}
