import { FluxError } from '../../errors.js'
import type { NativeArray } from '../../native/addon.js'
import { exactly, rows } from '../array-checks.js'
import { AdaptedNetwork } from '../lora/adapted-network.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import {
  attachmentInputs,
  openAttachments,
  requireFits,
  versionOf,
  wholeUse,
  type ControlInput,
  type FluxAttachment,
  type ImagePromptInput,
  type OpenAttachment,
} from './attachments.js'
import type { FluxConfig } from './layout.js'
import { biasRows, type TextBias } from './text-bias.js'
import { timestepEmbedding } from './timestep-embedding.js'

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
  /** required by models with the guidance embedding (dev), rejected by models without it (schnell) */
  guidance?: number
  /** how strongly runs of text tokens are attended to. @default all alike, which costs nothing */
  textBias?: readonly TextBias[]
  /** control images for attached ControlNets; their effects add up. @default none */
  controls?: readonly ControlInput[]
  /** images for attached IP-Adapters; their effects add up. @default none */
  imagePrompts?: readonly ImagePromptInput[]
  signal?: AbortSignal
}

/** The FLUX.1 transformer: black-forest-labs/flux, `src/flux/model.py`. */
export class FluxTransformer extends AdaptedNetwork<FluxConfig> {
  #attached: readonly OpenAttachment[] = []

  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<FluxConfig>, options: NetworkOptions = {}): Promise<FluxTransformer> {
    const file = await openNetworkFile('flux', source)
    return new FluxTransformer(file, await LoadedNetwork.start(file, options))
  }

  /**
   * Bytes that one evaluation takes in addition to the weights. Only the files' headers are read.
   *
   * @param attachments each is used once
   */
  static async activationBytes(
    source: NetworkSource<FluxConfig>,
    imageTokens: number,
    textTokens: number,
    options: NetworkOptions = {},
    attachments: readonly FluxAttachment[] = [],
  ): Promise<number> {
    const file = await openNetworkFile('flux', source)
    const attached = await openAttachments(attachments)
    for (const attachment of attached) requireFits(attachment, file.config)
    const rowsAndColumns = 0b110
    const shape = [imageTokens, textTokens, rowsAndColumns, 0, ...wholeUse(attached, imageTokens)]
    return LoadedNetwork.measure(file, options, 'predict', shape, attached)
  }

  /**
   * Loads ControlNets and IP-Adapters, which `predict` then evaluates together with the transformer. The list replaces
   * the previous one; what is in both is not loaded again, unless its file has changed. An empty list removes all. They
   * use the transformer's device, threads and precision, and count in `memory()`. LoRAs do not change them.
   *
   * What is not in the list is freed before anything is loaded. If loading fails or is aborted, none is left; wrong
   * files are found before that, and leave everything as it was.
   *
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY,
   *   FLUX_CLOSED; the signal's reason when aborted
   */
  async attach(attachments: readonly FluxAttachment[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    await this.attachOpen(await openAttachments(attachments), { signal })
  }

  /** Does the same as {@link attach} with files that are open already. */
  async attachOpen(
    files: readonly OpenAttachment[],
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    for (const file of files) requireFits(file, this.config)
    const versions = files.map(versionOf)
    if (JSON.stringify(versions) === JSON.stringify(this.#attached.map(versionOf))) return
    const begin = () => {
      const before = this.#attached.map(versionOf)
      this.#attached = []
      return files.map((file, i) => {
        const index = before.indexOf(versions[i]!)
        return index < 0 ? file : index
      })
    }
    await this.attachFiles(files, begin, signal)
    this.#attached = files
  }

  /**
   * channels of an image token: `inChannels`, or more with a LoRA for control images (Canny, Depth), which reads their
   * latents after the image's own
   */
  get channels(): number {
    return Math.max(this.config.inChannels, this.widened)
  }

  /**
   * One evaluation: the velocity at `timestep`.
   *
   * @returns [L, outChannels]
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's
   *   reason when aborted
   */
  async predict(input: PredictInput): Promise<Float32Array> {
    const { img, imgIds, txt, txtIds, vec, timestep, guidance, textBias = [], signal } = input
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
    const bias = biasRows(textBias, textTokens)

    const attached = attachmentInputs(this.#attached, input, imageTokens)

    // Positions of all tokens, text first, for every axis that is used. A ControlNet's mode is a token before them.
    const axes = [0, 1, 2].map((axis) => positions(txtIds, textTokens, imgIds, imageTokens, axis))
    const used = axes.reduce((set, axis, i) => (axis.some((position) => position !== 0) ? set | (1 << i) : set), 0)
    const inputs: NativeArray[] = [
      img,
      txt,
      vec,
      timestepEmbedding(timestep),
      ...(guidance === undefined ? [] : [timestepEmbedding(guidance)]),
      ...axes
        .filter((_, i) => used & (1 << i))
        .map((axis) => (attached.mode ? Int32Array.of(axis[0]!, ...axis) : axis)),
      ...(bias ? [bias] : []),
      ...attached.inputs,
    ]
    const shape = [imageTokens, textTokens, used, bias ? 1 : 0, ...attached.shape]
    const [velocity] = await this.run('predict', shape, inputs, signal)
    return velocity!
  }
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
