/// <reference lib="esnext.disposable" preserve="true" />
/// <reference types="node" preserve="true" />
/**
 * The five networks of FLUX.1 as classes, for people who bring their own sampler: `import { FluxTransformer } from 'ggflux/nn'`.
 * Each evaluates off the JavaScript thread, one call at a time; a second call meanwhile is refused with FLUX_BUSY.
 */
import { FluxError } from './errors.js'
import { timestepEmbedding } from './families/flux1/tokens.js'
import type { AdaptableNetwork } from './networks/lora/layer-names.js'
import { openLora } from './networks/lora/lora-file.js'
import { checkLoras, loraTables, nothingBelongs, type LoraOptions } from './networks/lora/assignment.js'
import { openNetworkFile, type NetworkConfigs, type NetworkSource } from './networks/network-file.js'
import { LoadedNetwork, type NetworkOptions } from './networks/network.js'
import { relativePositionBuckets } from './networks/t5/buckets.js'

export type { NetworkOptions, Operation } from './networks/network.js'
export type { LoraOptions } from './networks/lora/assignment.js'
export type { NetworkSource } from './networks/network-file.js'
export type { FluxConfig } from './networks/flux/layout.js'
export type { T5Config } from './networks/t5/layout.js'
export type { ClipConfig } from './networks/clip/layout.js'
export type { AutoencoderConfig } from './networks/autoencoder/layout.js'
export type { TinyDecoderConfig } from './networks/taesd/layout.js'

/** Inputs of {@link FluxTransformer.predict}: L image tokens, T text tokens. Arrays are row-major. */
export interface PredictInput {
  /** image tokens [L, channels], see {@link FluxTransformer.channels} */
  img: Float32Array
  /** positions of the image tokens [L, 3]: index, row, column; whole numbers */
  imgIds: Float32Array
  /** T5's states [T, contextInDim] */
  txt: Float32Array
  /** positions of the text tokens [T, 3]. @default zeros */
  txtIds?: Float32Array
  /** CLIP's pooled output [vecInDim] */
  vec: Float32Array
  /** 0 to 1; the factor 1000 is applied inside */
  timestep: number
  /** needed by models with the guidance embedding (dev), refused by those without (schnell) */
  guidance?: number
  signal?: AbortSignal
}

/** A network that LoRAs can add to. */
abstract class AdaptedNetwork<K extends AdaptableNetwork['kind']> extends LoadedNetwork<NetworkConfigs[K]> {
  protected abstract readonly kind: K
  /** what messages call it */
  protected abstract readonly what: string
  /** channels of image tokens that LoRAs read; 0 where they need no more than the model */
  protected widened = 0

  /**
   * Adds LoRAs to the weights from now on, in place of those before; an empty list takes them away. They are computed beside the weights, which
   * stay as they are, so it takes milliseconds.
   *
   * @returns for each LoRA the names in its file that belong to no layer of this network, such as those of another one
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE; FLUX_UNSUPPORTED when nothing in a file belongs here; FLUX_BAD_OPTION, FLUX_BUSY, FLUX_CLOSED
   */
  async adapt(loras: readonly LoraOptions[]): Promise<string[][]> {
    checkLoras(loras)
    const network = { kind: this.kind, config: this.config } as AdaptableNetwork
    const opened = await Promise.all(
      loras.map(async ({ path, scale = 1 }) => ({ lora: await openLora(path, network), scale })),
    )
    for (const { lora } of opened) if (lora.layers.length === 0) throw nothingBelongs(lora, this.what)
    const acting = opened.filter(({ scale }) => scale !== 0)
    await this.add(...loraTables(acting))
    this.widened = Math.max(0, ...acting.map(({ lora }) => lora.channels ?? 0))
    return opened.map(({ lora }) => lora.left)
  }
}

/** The FLUX.1 transformer: black-forest-labs/flux, `src/flux/model.py`. */
export class FluxTransformer extends AdaptedNetwork<'flux'> {
  protected readonly kind = 'flux'
  protected readonly what = 'transformer'

  /** @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_DEVICE */
  static async load(
    source: NetworkSource<NetworkConfigs['flux']>,
    options: NetworkOptions = {},
  ): Promise<FluxTransformer> {
    const file = await openNetworkFile('flux', source)
    return new FluxTransformer(file, await LoadedNetwork.start(file, fluxNumbers(file.config), options))
  }

  /** Bytes that one evaluation takes beside the weights, from the file's header alone. */
  static async activationBytes(
    source: NetworkSource<NetworkConfigs['flux']>,
    imageTokens: number,
    textTokens: number,
    options: NetworkOptions = {},
  ): Promise<number> {
    const file = await openNetworkFile('flux', source)
    const rowsAndColumns = 0b110
    return LoadedNetwork.measure(file, fluxNumbers(file.config), options, 'predict', [
      imageTokens,
      textTokens,
      rowsAndColumns,
    ])
  }

  /** of an image token: `inChannels`, or more beside a LoRA for control pictures (Canny, Depth), which reads their latents behind the picture's own */
  get channels(): number {
    return Math.max(this.config.inChannels, this.widened)
  }

  /**
   * One evaluation: the velocity at `timestep`.
   *
   * @returns [L, outChannels]
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's reason when aborted
   */
  async predict({ img, imgIds, txt, txtIds, vec, timestep, guidance, signal }: PredictInput): Promise<Float32Array> {
    const { contextInDim, vecInDim, guidanceEmbed } = this.config
    const imageTokens = rows('img', img, this.channels)
    const textTokens = rows('txt', txt, contextInDim)
    exactly('imgIds', imgIds, imageTokens * 3)
    if (txtIds) exactly('txtIds', txtIds, textTokens * 3)
    exactly('vec', vec, vecInDim)
    if (!(timestep >= 0 && timestep <= 1))
      throw new FluxError('FLUX_BAD_OPTION', `timestep is ${timestep}; a number from 0 to 1 is needed`)
    if (guidanceEmbed !== (guidance !== undefined)) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        guidanceEmbed
          ? 'this model needs guidance (3.5 is usual)'
          : 'this model was made without guidance; leave it out',
      )
    }
    if (guidance !== undefined && !(guidance >= 0 && guidance <= 1000)) {
      throw new FluxError('FLUX_BAD_OPTION', `guidance is ${guidance}; a number from 0 to 1000 is needed`)
    }

    // Positions of all tokens, text first, for every axis that has any.
    const axes = [0, 1, 2].map((axis) => positions(txtIds, textTokens, imgIds, imageTokens, axis))
    const used = axes.reduce((set, axis, i) => (axis.some((position) => position !== 0) ? set | (1 << i) : set), 0)
    const inputs = [
      img,
      txt,
      vec,
      timestepEmbedding(timestep),
      ...(guidance === undefined ? [] : [timestepEmbedding(guidance)]),
      ...axes.filter((_, i) => used & (1 << i)),
    ]
    const [velocity] = await this.run('predict', [imageTokens, textTokens, used], inputs, signal)
    return velocity!
  }
}

/** The encoder of T5 v1.1: huggingface/transformers, `modeling_t5.py`. Without an attention mask: padding takes part, as in FLUX. */
export class T5Encoder extends AdaptedNetwork<'t5'> {
  protected readonly kind = 't5'
  protected readonly what = 'T5 encoder'
  #buckets?: Int32Array

  /** @throws {FluxError} as {@link FluxTransformer.load} */
  static async load(source: NetworkSource<NetworkConfigs['t5']>, options: NetworkOptions = {}): Promise<T5Encoder> {
    const file = await openNetworkFile('t5', source)
    return new T5Encoder(file, await LoadedNetwork.start(file, { ...file.config }, options))
  }

  /**
   * @param tokens [n], padded by the caller
   * @returns the last hidden state [n, dModel]
   * @throws {FluxError} FLUX_BAD_SHAPE for a token outside of the vocabulary, and as {@link FluxTransformer.predict}
   */
  async encode(tokens: Int32Array, { signal }: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    const { numBuckets, maxDistance, vocabSize } = this.config
    const n = tokenCount(tokens, 4096, vocabSize)
    if (this.#buckets?.length !== n * n) this.#buckets = relativePositionBuckets(n, numBuckets, maxDistance)
    const [states] = await this.run('encode', [n], [tokens, this.#buckets], signal)
    return states!
  }
}

/** CLIP's text encoder: huggingface/transformers, `modeling_clip.py`. */
export class ClipTextEncoder extends AdaptedNetwork<'clip'> {
  protected readonly kind = 'clip'
  protected readonly what = 'CLIP encoder'

  /** @throws {FluxError} as {@link FluxTransformer.load} */
  static async load(
    source: NetworkSource<NetworkConfigs['clip']>,
    options: NetworkOptions = {},
  ): Promise<ClipTextEncoder> {
    const file = await openNetworkFile('clip', source)
    return new ClipTextEncoder(file, await LoadedNetwork.start(file, { ...file.config }, options))
  }

  /**
   * @param tokens [n], n up to `maxPositions`; filled up with the end token by the caller
   * @param eos index whose state is the pooled output. @default the first occurrence of the last token id of the vocabulary
   * @returns pooled [hiddenSize]; hidden [n, hiddenSize] after the final norm
   * @throws {FluxError} as {@link T5Encoder.encode}
   */
  async encode(
    tokens: Int32Array,
    { eos, signal }: { eos?: number; signal?: AbortSignal } = {},
  ): Promise<{ pooled: Float32Array; hidden: Float32Array }> {
    const { maxPositions, vocabSize, hiddenSize } = this.config
    const n = tokenCount(tokens, maxPositions, vocabSize)
    const end = eos ?? tokens.indexOf(vocabSize - 1)
    if (!Number.isInteger(end) || end < 0 || end >= n) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `eos is ${eos ?? 'not given, and the tokens hold no end token'}; the index of the end token, 0 to ${n - 1}, is needed`,
      )
    }
    const [hidden] = await this.run('encode', [n], [tokens, Int32Array.from({ length: n }, (_, i) => i)], signal)
    return { pooled: hidden!.slice(end * hiddenSize, (end + 1) * hiddenSize), hidden: hidden! }
  }
}

/** The autoencoder: black-forest-labs/flux, `src/flux/modules/autoencoder.py`. */
export class Autoencoder extends LoadedNetwork<NetworkConfigs['autoencoder']> {
  /** @throws {FluxError} as {@link FluxTransformer.load} */
  static async load(
    source: NetworkSource<NetworkConfigs['autoencoder']>,
    options: NetworkOptions = {},
  ): Promise<Autoencoder> {
    const file = await openNetworkFile('autoencoder', source)
    return new Autoencoder(file, await LoadedNetwork.start(file, autoencoderNumbers(file.config), options))
  }

  /** Bytes that decoding a latent takes beside the weights, from the file's header alone. */
  static async activationBytes(
    source: NetworkSource<NetworkConfigs['autoencoder']>,
    height: number,
    width: number,
    options: NetworkOptions = {},
  ): Promise<number> {
    const file = await openNetworkFile('autoencoder', source)
    return LoadedNetwork.measure(file, autoencoderNumbers(file.config), options, 'decode', [height, width])
  }

  /** pixels per latent on a side: 8 in FLUX.1 */
  get reduction(): number {
    return 2 ** (this.config.chMult.length - 1)
  }

  /**
   * @param latent [zChannels, height, width] as the sampler leaves it
   * @returns [3, 8 height, 8 width] in about -1 to 1
   * @throws {FluxError} FLUX_UNSUPPORTED when the file has no decoder, and as {@link FluxTransformer.predict}
   */
  async decode(
    latent: Float32Array,
    height: number,
    width: number,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Float32Array> {
    if (!this.config.hasDecoder)
      throw new FluxError('FLUX_UNSUPPORTED', `${this.path} holds no decoder; use the complete autoencoder`)
    sides(height, width, 1)
    exactly('latent', latent, this.config.zChannels * height * width)
    const [image] = await this.run('decode', [height, width], [latent], signal)
    return image!
  }

  /**
   * @param image [3, height, width] in -1 to 1; sides are multiples of 8
   * @returns the raw moments, mean and logvar, each [zChannels, height / 8, width / 8]; nothing is sampled, scaled or shifted
   * @throws {FluxError} FLUX_UNSUPPORTED when the file has no encoder, and as {@link FluxTransformer.predict}
   */
  async encode(
    image: Float32Array,
    height: number,
    width: number,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<{ mean: Float32Array; logvar: Float32Array }> {
    if (!this.config.hasEncoder)
      throw new FluxError('FLUX_UNSUPPORTED', `${this.path} holds no encoder; use the complete autoencoder`)
    sides(height, width, this.reduction)
    exactly('image', image, 3 * height * width)
    const [moments] = await this.run('encode', [height, width], [image], signal)
    const half = moments!.length / 2
    return { mean: moments!.slice(0, half), logvar: moments!.slice(half) }
  }
}

/** TAEF1's decoder: previews in full size in a hundredth of the autoencoder's time. github.com/madebyollin/taesd, `taesd.py`. */
export class TinyDecoder extends LoadedNetwork<NetworkConfigs['tiny-decoder']> {
  /** @throws {FluxError} as {@link FluxTransformer.load} */
  static async load(
    source: NetworkSource<NetworkConfigs['tiny-decoder']>,
    options: NetworkOptions = {},
  ): Promise<TinyDecoder> {
    const file = await openNetworkFile('tiny-decoder', source)
    return new TinyDecoder(file, await LoadedNetwork.start(file, { ...file.config }, options))
  }

  /**
   * @param latent [zChannels, height, width] as the sampler leaves it
   * @returns [3, 8 height, 8 width] in about -1 to 1
   * @throws {FluxError} as {@link FluxTransformer.predict}
   */
  async decode(
    latent: Float32Array,
    height: number,
    width: number,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Float32Array> {
    sides(height, width, 1)
    exactly('latent', latent, this.config.zChannels * height * width)
    const [image] = await this.run('decode', [height, width], [latent], signal)
    return image!
  }
}

/** The configuration in numbers alone, as it crosses the boundary. */
function fluxNumbers({ axesDim, guidanceEmbed, ...numbers }: NetworkConfigs['flux']): Record<string, number> {
  return {
    ...numbers,
    guidanceEmbed: Number(guidanceEmbed),
    axesDim0: axesDim[0],
    axesDim1: axesDim[1],
    axesDim2: axesDim[2],
  }
}

function autoencoderNumbers({
  chMult,
  hasEncoder,
  hasDecoder,
  ...numbers
}: NetworkConfigs['autoencoder']): Record<string, number> {
  const levels = Object.fromEntries(chMult.map((mult, i) => [`chMult${i}`, mult]))
  return {
    ...numbers,
    levels: chMult.length,
    ...levels,
    hasEncoder: Number(hasEncoder),
    hasDecoder: Number(hasDecoder),
  }
}

function rows(name: string, array: Float32Array, width: number): number {
  if (!(array instanceof Float32Array)) throw new FluxError('FLUX_BAD_OPTION', `${name} must be a Float32Array`)
  if (array.length === 0 || array.length % width !== 0) {
    throw new FluxError('FLUX_BAD_SHAPE', `${name} has ${array.length} numbers; whole rows of ${width} are needed`)
  }
  return array.length / width
}

function exactly(name: string, array: Float32Array, length: number): void {
  if (!(array instanceof Float32Array)) throw new FluxError('FLUX_BAD_OPTION', `${name} must be a Float32Array`)
  if (array.length !== length)
    throw new FluxError('FLUX_BAD_SHAPE', `${name} has ${array.length} numbers; ${length} are needed`)
}

function sides(height: number, width: number, unit: number): void {
  for (const [name, side] of Object.entries({ height, width })) {
    if (!Number.isInteger(side) || side < 1 || side > 32768 || side % unit !== 0) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `${name} is ${side}; a whole number from 1 to 32768${unit > 1 ? ` and a multiple of ${unit}` : ''} is needed`,
      )
    }
  }
}

function tokenCount(tokens: Int32Array, most: number, vocabulary: number): number {
  if (!(tokens instanceof Int32Array)) throw new FluxError('FLUX_BAD_OPTION', 'tokens must be an Int32Array')
  if (tokens.length < 1 || tokens.length > most)
    throw new FluxError('FLUX_BAD_SHAPE', `there are ${tokens.length} tokens; 1 to ${most} are possible`)
  const wrong = tokens.find((token) => token < 0 || token >= vocabulary)
  if (wrong !== undefined) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `token ${wrong} is outside of the vocabulary of ${vocabulary}; the tokenizer belongs to another model`,
    )
  }
  return tokens.length
}

function positions(
  txtIds: Float32Array | undefined,
  textTokens: number,
  imgIds: Float32Array,
  imageTokens: number,
  axis: number,
): Int32Array {
  const all = new Int32Array(textTokens + imageTokens)
  const put = (ids: Float32Array, name: string, first: number, count: number) => {
    for (let i = 0; i < count; i++) {
      const position = ids[3 * i + axis]!
      if (!Number.isInteger(position) || position < 0 || position >= 2 ** 24) {
        throw new FluxError(
          'FLUX_BAD_OPTION',
          `${name} holds the position ${position}; whole numbers from 0 are needed`,
        )
      }
      all[first + i] = position
    }
  }
  if (txtIds) put(txtIds, 'txtIds', 0, textTokens)
  put(imgIds, 'imgIds', textTokens, imageTokens)
  return all
}
