import { availableParallelism } from 'node:os'
import type { Settings } from '../pipeline/generate-options.js'
import { isCoarse } from '../inspect/file.js'
import { flopsOf, type NetworkFile } from '../networks/network-file.js'
import type { NetworkOptions } from '../networks/network.js'
import { Autoencoder, FluxTransformer } from '../nn.js'
import type { OpenModel } from '../pipeline/open-model.js'
import type { Flops } from '../networks/flops.js'
import { deviceRoof, Speed, type Work } from './cost-model.js'

/** What a picture will cost. */
export interface Estimate {
  /** multiplications and additions: of the text encoders, of one step, of the decoder */
  operations: Record<Work, number>
  /**
   * Of the text encoders with their loading where they are not kept, of one step, of the decoder, and of all together. Before the first
   * picture from a short measurement of the processor; undefined then on other devices. Afterwards from the time that the last picture took.
   */
  seconds: Record<Work | 'total', number> | undefined
  /** bytes that are in use at the same time at most: weights, buffers for activations, and both; previews by the autoencoder take more */
  memory: { weights: number; activations: number; total: number }
}

type Picture = Pick<Settings, 'width' | 'height' | 'sigmas' | 'maxSequenceLength'>

/** Foretells time and memory, and learns from how long the work then took. */
export class Estimator {
  readonly #model: OpenModel
  readonly #device: NetworkOptions
  readonly #keep: boolean
  readonly #speed: Speed
  #drawn = false

  /** @param keep whether the text encoders stay in memory */
  constructor(model: OpenModel, device: NetworkOptions, keep: boolean) {
    this.#model = model
    this.#device = device
    this.#keep = keep
    const { backend, threads = availableParallelism() } = device
    this.#speed = new Speed(() => deviceRoof(backend, threads))
  }

  learn(work: Work, picture: Picture, milliseconds: number): void {
    this.#drawn ||= work === 'step'
    this.#speed.learn(work, this.#operations(picture)[work], milliseconds / 1000)
  }

  async estimate(picture: Picture): Promise<Estimate> {
    const operations = this.#operations(picture)
    const rounded = this.#rounded()
    const [text, step, decode] = await Promise.all(
      (['text', 'step', 'decode'] as const).map((work) => this.#speed.foretell(work, operations[work], rounded[work])),
    )
    const known = text !== undefined && step !== undefined && decode !== undefined
    const seconds = known
      ? { text, step, decode, total: text + (picture.sigmas.length - 1) * step + decode }
      : undefined
    const sum = ({ products, attention }: Flops) => products + attention
    return {
      operations: { text: sum(operations.text), step: sum(operations.step), decode: sum(operations.decode) },
      seconds,
      memory: await this.#memory(picture),
    }
  }

  #operations({ width, height, maxSequenceLength }: Picture): Record<Work, Flops> {
    const { transformer, t5, clip, vae } = this.#model
    const [states, pooled] = [flopsOf(t5, [maxSequenceLength]), flopsOf(clip, [clip.config.maxPositions])]
    return {
      text: { products: states.products + pooled.products, attention: states.attention + pooled.attention },
      step: flopsOf(transformer, [(width / 16) * (height / 16), maxSequenceLength]),
      decode: flopsOf(vae, [height / 8, width / 8]),
    }
  }

  /** Where factors are rounded to bfloat16, if the processor multiplies that: beside weights that are no finer, or where that is asked for. */
  #rounded(): Record<Work, boolean> {
    const { precision = 'auto' } = this.#device
    const coarse = (network: NetworkFile<unknown>): boolean =>
      precision === 'bf16' || (precision === 'auto' && isCoarse(network))
    return { text: coarse(this.#model.t5), step: coarse(this.#model.transformer), decode: precision === 'bf16' }
  }

  async #memory({ width, height, maxSequenceLength }: Picture): Promise<Estimate['memory']> {
    const { transformer, t5, clip, vae } = this.#model
    const drawing = transformer.bytes + vae.bytes
    // encoders that are not kept are loaded one after the other; at the first picture before the transformer, later beside it
    const encoders = this.#keep ? t5.bytes + clip.bytes : Math.max(t5.bytes, clip.bytes)
    const weights = this.#keep || this.#drawn ? encoders + drawing : Math.max(encoders, drawing)
    const tokens = (width / 16) * (height / 16)
    // one after the other
    const activations = Math.max(
      await FluxTransformer.activationBytes(transformer.file.path, tokens, maxSequenceLength, this.#device),
      await Autoencoder.activationBytes(vae.file.path, height / 8, width / 8, this.#device),
    )
    return { weights, activations, total: weights + activations }
  }
}
