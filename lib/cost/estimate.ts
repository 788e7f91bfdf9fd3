import { availableParallelism } from 'node:os'
import { isCoarse, type NetworkFile } from '../networks/network-file.js'
import type { NetworkOptions } from '../networks/network.js'
import {
  componentsFor,
  type Component,
  type Family,
  type ImageSize,
  type NetworksOf,
  type Components,
} from '../families/family.js'
import { NO_FLOPS, timesFlops, type Flops, type Work } from '../networks/flops.js'
import { upscalingCost } from '../networks/rrdb/cost.js'
import { evaluationsIn, type SamplerName } from '../sampling/samplers.js'
import { isOnHub } from '../hub/plan.js'
import { devicePeak, CostModel } from './cost-model.js'

/** The estimated cost of an image. */
export interface Estimate {
  /**
   * multiplications and additions: for the text encoders, for encoding the images that are given, for one evaluation in
   * a step (with `hires` the mean of both passes), and for the decoder, with a network that enlarges images
   */
  operations: Record<Work, number>
  /**
   * Times of the text encoders (with loading, when they are not kept), of encoding the images, of one evaluation in a step
   * (some samplers have two in each), of the decoder, and of everything together. Before the first image, they come from
   * a short measurement of the processor; on other devices they are undefined. Afterwards, they come from the time that
   * the last image took.
   */
  seconds: Record<Work | 'total', number> | undefined
  /**
   * peak memory in bytes: weights, with those of ControlNets, IP-Adapters and the vision towers that the images need;
   * activation buffers; and both together. Previews by the autoencoder, and vision towers that stay from earlier images,
   * take more.
   */
  memory: { weights: number; activations: number; total: number }
}

/** One run over noise levels. */
type Pass = ImageSize & { sigmas: readonly number[] }

/** `trueCfg`: each step evaluates the model twice */
interface ImageRequest extends Pass {
  sampler?: SamplerName
  trueCfg?: object | undefined
  /** the second pass, over an enlarged image */
  hires?:
    | (Pick<Pass, 'width' | 'height' | 'sigmas'> & { upscale: 'latent' | 'image'; upscaler?: string | undefined })
    | undefined
}

/** A family and the files of its networks. */
interface Model {
  family: Family
  networks: NetworksOf<Components>
}

const WORKS = ['text', 'encode', 'step', 'decode'] as const satisfies readonly Work[]

/** Predicts time and memory, and learns from the measured time. */
export class Estimator {
  readonly #model: Model
  readonly #device: NetworkOptions
  readonly #keep: boolean
  readonly #costModel: CostModel
  /** counting takes milliseconds, and each evaluation of a request is observed */
  readonly #counted = new WeakMap<ImageRequest, Record<Work, Flops>>()
  #drawn = false

  /** @param keep whether the text encoders stay in memory */
  constructor(model: Model, device: NetworkOptions, keep: boolean) {
    this.#model = model
    this.#device = device
    this.#keep = keep
    const { backend, threads = availableParallelism() } = device
    this.#costModel = new CostModel(() => devicePeak(backend, threads))
  }

  observe(work: Work, request: ImageRequest, milliseconds: number): void {
    this.#drawn ||= work === 'step'
    this.#costModel.observe(work, this.#operations(request)[work], milliseconds / 1000)
  }

  async estimate({ hires, ...request }: ImageRequest): Promise<Estimate> {
    const first = await this.#estimatePass(request)
    if (!hires) return first
    const second = await this.#estimatePass({ ...request, ...hires, startsFromImage: hires.upscale === 'image' })
    const [a, b] = [evaluations(request), evaluations({ ...request, ...hires })]
    const { upscale, upscaler } = hires
    // nothing is downloaded for an estimate
    const upscaling =
      upscaler === undefined || isOnHub(upscaler) ? undefined : await upscalingCost(upscaler, request, this.#device)
    const rounded = this.#rounded().decode
    const upscalingSeconds = upscaling && (await this.#costModel.predict('decode', upscaling.operations, rounded))
    const both = (one: Record<Work, number>, two: Record<Work, number>, enlarging = 0): Record<Work, number> => ({
      text: one.text,
      // the second pass reads the images at its own size
      encode: one.encode + two.encode,
      step: (a * one.step + b * two.step) / (a + b),
      decode: two.decode + (upscale === 'image' ? one.decode : 0) + enlarging,
    })
    const seconds = first.seconds && second.seconds && both(first.seconds, second.seconds, upscalingSeconds)
    return {
      operations: both(first.operations, second.operations, upscaling?.operations.products),
      seconds: seconds && { ...seconds, total: totalOf(seconds, a + b) },
      memory: [first.memory, second.memory, ...(upscaling ? [nextTo(first.memory, upscaling)] : [])].reduce(
        (most, one) => (one.total > most.total ? one : most),
      ),
    }
  }

  async #estimatePass(request: ImageRequest): Promise<Estimate> {
    const operations = this.#operations(request)
    const rounded = this.#rounded()
    const predicted = await Promise.all(
      WORKS.map(async (work) => [work, await this.#costModel.predict(work, operations[work], rounded[work])] as const),
    )
    const known = predicted.every(([, seconds]) => seconds !== undefined)
    const seconds = known ? (Object.fromEntries(predicted) as Record<Work, number>) : undefined
    const sums = WORKS.map((work) => [work, operations[work].products + operations[work].attention])
    return {
      operations: Object.fromEntries(sums) as Record<Work, number>,
      seconds: seconds && { ...seconds, total: totalOf(seconds, evaluations(request)) },
      memory: await this.#memory(request),
    }
  }

  #operations(request: ImageRequest): Record<Work, Flops> {
    const known = this.#counted.get(request)
    if (known) return known
    const { family, networks } = this.#model
    const { text, ...others } = family.operations(networks, request)
    // the negative prompt is encoded as well
    const counted = { encode: NO_FLOPS, ...others, text: timesFlops(request.trueCfg ? 2 : 1, text) }
    this.#counted.set(request, counted)
    return counted
  }

  #files(stage: Component['stage']): NetworkFile<unknown>[] {
    const { family, networks } = this.#model
    return componentsFor(family, stage).map((name) => networks[name]!)
  }

  /** Whether factors are rounded to bfloat16, if the processor supports it: with weights no finer, or on request. */
  #rounded(): Record<Work, boolean> {
    const { precision = 'auto' } = this.#device
    const coarse = (network: NetworkFile<unknown>): boolean =>
      precision === 'bf16' || (precision === 'auto' && isCoarse(network))
    return {
      text: coarse(largest(this.#files('text'))),
      encode: precision === 'bf16',
      step: coarse(largest(this.#files('denoise'))),
      decode: precision === 'bf16',
    }
  }

  async #memory(request: ImageRequest): Promise<Estimate['memory']> {
    const { family, networks } = this.#model
    const { inputs = {}, attached = [] } = request
    const text = this.#files('text')
    const towers = family.imageEncoders?.(networks, inputs) ?? []
    const decoding = bytesOf(this.#files('decode'))
    const denoising = bytesOf(this.#files('denoise')) + decoding + bytesOf(attached)
    // those that are not kept are loaded one by one: before the denoiser for the first image, later next to it
    const one = (files: NetworkFile<unknown>[]) => Math.max(0, ...files.map(({ bytes }) => bytes))
    const weights = this.#keep
      ? bytesOf([...text, ...towers]) + denoising
      : this.#drawn
        ? one([...text, ...towers]) + denoising
        : Math.max(one(text), one(towers) + decoding, denoising)
    const activations = await family.activationBytes(networks, request, this.#device)
    return { weights, activations, total: weights + activations }
  }
}

/** The memory of a network that is loaded between two passes. */
function nextTo(
  pass: Estimate['memory'],
  { weights, activations }: Pick<Estimate['memory'], 'weights' | 'activations'>,
): Estimate['memory'] {
  const all = pass.weights + weights
  return { weights: all, activations, total: all + activations }
}

const bytesOf = (files: readonly NetworkFile<unknown>[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0)

const totalOf = ({ text, encode, step, decode }: Record<Work, number>, evaluations: number): number =>
  text + encode + evaluations * step + decode

/** of the denoiser in one pass */
function evaluations({ sampler = 'euler', sigmas, trueCfg }: ImageRequest): number {
  return (trueCfg ? 2 : 1) * evaluationsIn(sampler, sigmas.length - 1)
}

function largest(files: NetworkFile<unknown>[]): NetworkFile<unknown> {
  return files.reduce((best, file) => (file.bytes > best.bytes ? file : best))
}
