import type { Conditioning } from '../../lib/families/conditioning.js'
import {
  toPlanes,
  type ControlNetInput,
  type EncodeImage,
  type ImageEncoders,
  type ReferencePlacement,
} from '../../lib/families/image-inputs.js'
import { checkImages } from '../../lib/families/flux1/check-images.js'
import { attachNetworks, bindTransformer } from '../../lib/families/flux1/conditioning.js'
import { encodeImages } from '../../lib/families/flux1/image-tokens.js'
import { packLatents, unpackLatents } from '../../lib/families/flux1/tokens.js'
import { toBytes } from '../../lib/images/pixels.js'
import {
  Autoencoder,
  ClipVisionEncoder,
  FluxTransformer,
  ReduxProjector,
  SiglipVisionEncoder,
  type NetworkOptions,
} from '../../lib/nn.js'
import type { LoadedNetwork } from '../../lib/networks/network.js'
import { denoise } from '../../lib/sampling/denoise.js'
import type { Kept } from '../../lib/sampling/inpaint.js'
import { flow } from '../../lib/sampling/prediction.js'
import type { Predict } from '../../lib/sampling/samplers.js'
import { goldenErrors, goldenIo, goldenWeights, type GoldenCases, type GoldenModel } from './golden.js'
import type { ErrorRow } from './parity.js'
import { relL2 } from './safetensors.js'

// Images as inputs of FLUX.1 beside the reference, F32 weights, on any device. The tolerances are those of the reference data.

type Transformer = Extract<GoldenModel, `flux-${string}`>

/** The networks of the cases, loaded when they are first needed. */
export class GoldenNetworks {
  readonly #options: NetworkOptions
  readonly #loaded = new Map<string, Promise<LoadedNetwork<object>>>()

  constructor(options: NetworkOptions) {
    this.#options = options
  }

  transformer(model: Transformer): Promise<FluxTransformer> {
    return this.#load(model, FluxTransformer)
  }

  vae(): Promise<Autoencoder> {
    return this.#load('ae-tiny', Autoencoder)
  }

  /** A vision tower, or what follows it, by the name of the component. */
  vision(name: string): Promise<SiglipVisionEncoder | ClipVisionEncoder | ReduxProjector> {
    if (name === 'redux') return this.#load('redux-tiny', ReduxProjector)
    // heads of 64 numbers would be the rule
    const withHeads = <Network>(tower: {
      load(source: { path: string; config: { numHeads: number } }, options: NetworkOptions): Promise<Network>
    }) => ({
      load: (path: string, options: NetworkOptions) => tower.load({ path, config: { numHeads: 4 } }, options),
    })
    return name === 'siglip'
      ? this.#load('siglip-tiny', withHeads(SiglipVisionEncoder))
      : this.#load('clip-vision-tiny', withHeads(ClipVisionEncoder))
  }

  async close(): Promise<void> {
    for (const network of this.#loaded.values()) await (await network).close()
  }

  #load<Network extends LoadedNetwork<object>>(
    model: GoldenModel,
    network: { load(path: string, options: NetworkOptions): Promise<Network> },
  ): Promise<Network> {
    let loaded = this.#loaded.get(model) as unknown as Promise<Network> | undefined
    if (!loaded) {
      loaded = goldenWeights(model).then((path) => network.load(path, this.#options))
      this.#loaded.set(model, loaded)
    }
    return loaded
  }
}

/** One case of a file: its tensors by their names without the case's. */
class Case {
  readonly rows: ErrorRow[] = []
  readonly #io: ReturnType<typeof goldenIo>
  readonly #networks: GoldenNetworks
  readonly #file: GoldenCases
  readonly #prefix: string

  constructor(networks: GoldenNetworks, file: GoldenCases, name = '') {
    this.#networks = networks
    this.#file = file
    this.#io = goldenIo(file)
    this.#prefix = name && `${name}.`
  }

  #find(tensor: string) {
    return this.#io.get(this.#prefix + tensor) ?? this.#io.get(tensor)!
  }

  floats(tensor: string): Float32Array {
    return this.#find(tensor).data as Float32Array
  }

  bytes(tensor: string): Uint8Array {
    return this.#find(tensor).data as Uint8Array
  }

  pixels(tensor: string) {
    const { data, shape } = this.#find(tensor)
    return { data: data as Uint8Array, width: shape.at(-2)!, height: shape.at(-3)! }
  }

  has(tensor: string): boolean {
    return this.#io.has(this.#prefix + tensor)
  }

  /** in latents */
  get size(): { height: number; width: number } {
    const [height, width] = this.#find('in.noise').shape.slice(2) as [number, number]
    return { height, width }
  }

  get inPixels(): { height: number; width: number } {
    const { height, width } = this.size
    return { height: 8 * height, width: 8 * width }
  }

  packed(latent: Float32Array): Float32Array {
    return packLatents(latent, this.size.height, this.size.width)
  }

  unpacked(state: Float32Array): Float32Array {
    return unpackLatents(state, this.size.height, this.size.width)
  }

  get noise(): Float32Array {
    return this.packed(this.floats('in.noise'))
  }

  /** Notes the error of an output as a row: relative L2, or the largest difference, or the share of other bytes. */
  compare(tensor: string, actual: ArrayLike<number>): void {
    const { rel_l2, max_abs, min_equal_fraction, exact } =
      goldenErrors()[`${this.#file}.io.safetensors`]![(this.has(tensor) ? this.#prefix : '') + tensor]!.suggested
    const expected = this.#find(tensor).data as Float32Array
    const note = (error: number, limit: number, how = '') =>
      this.rows.push([`${this.#file} ${this.#prefix}${tensor}${how}`, error, limit])
    if (actual.length !== expected.length) return void note(Infinity, 0, ', length')
    if (rel_l2 !== undefined) return void note(relL2(actual as Float32Array, expected), rel_l2)
    const apart = Array.from(actual, (value, i) => Math.abs(value - expected[i]!))
    note(
      apart.reduce((a, b) => Math.max(a, b)),
      exact ? 0 : max_abs!,
      ', largest difference',
    )
    if (min_equal_fraction !== undefined)
      note(apart.filter((d) => d > 0).length / apart.length, 1 - min_equal_fraction, ', share of other bytes')
  }

  encode: EncodeImage = async (image, height, width) => {
    const vae = await this.#networks.vae()
    const { scaleFactor, shiftFactor } = vae.config
    const { mean } = await vae.encode(image, height, width)
    return mean.map((value) => scaleFactor * (value - shiftFactor))
  }

  get encoders(): ImageEncoders {
    const { signal } = new AbortController()
    return {
      vae: this.encode,
      run: async (name, items, work) => {
        const network = (await this.#networks.vision(name)) as never
        const results = []
        for (const item of items) results.push(await work(network, item, { signal }))
        return results
      },
    }
  }

  transformer(model: Transformer): Promise<FluxTransformer> {
    return this.#networks.transformer(model)
  }

  async bind(model: Transformer, images?: unknown): Promise<Predict> {
    const tensors = { txt: this.floats('in.txt'), vec: this.floats('in.vec') }
    const request = {
      prompt: '',
      promptWeights: false,
      ...this.inPixels,
      guidance: this.floats('const.guidance')[0]!,
      maxSequenceLength: 0,
      sigmas: this.#find('out.timesteps') ? [...this.floats('out.timesteps')] : [1, 0],
    }
    const conditioning: Conditioning = { tensors, images, truncated: [] }
    return bindTransformer(await this.#networks.transformer(model), conditioning, request, new AbortController().signal)
  }

  /** Runs all steps and compares the first prediction, the state after each step, and the image. */
  async run(
    predict: Predict,
    { latents = this.noise, sigmas = [...this.floats('out.timesteps')], keep }: Run = {},
  ): Promise<void> {
    let first = true
    const checked: Predict = async (x, sigma) => {
      const output = await predict(x, sigma)
      if (first && this.has('out.pred.0')) this.compare('out.pred.0', output)
      first = false
      return output
    }
    let last = latents
    for await (const state of denoise({ predict: checked, latents, sigmas, keep })) {
      this.compare(`out.latents.${state.step - 1}`, state.latents)
      last = state.latents
    }
    if (!this.has('out.image_u8')) return
    const { height, width } = this.size
    const image = await (await this.#networks.vae()).decode(this.unpacked(last), height, width)
    this.compare('out.image_u8', toBytes(image, 8 * width, 8 * height))
  }

  /** The state of the image with noise at a level. */
  async startFrom(sigma: number): Promise<{ image: Float32Array; latents: Float32Array }> {
    const { height, width } = this.inPixels
    const latent = await this.encode(toPlanes(this.pixels('in.image_u8')), height, width)
    this.compare('out.x0', latent)
    const image = this.packed(latent)
    const latents = flow.noised(image, this.noise, sigma)
    this.compare('out.x_t', this.unpacked(latents))
    return { image, latents }
  }
}

interface Run {
  latents?: Float32Array
  sigmas?: number[]
  keep?: Kept
}

/** Runs a case and returns its errors. */
type Check = (networks: GoldenNetworks) => Promise<ErrorRow[]>

const checks = new Map<string, Check>()
const check = (title: string, file: GoldenCases, name: string, run: (given: Case) => Promise<void>): void => {
  checks.set(title, async (networks) => {
    const given = new Case(networks, file, name)
    await run(given)
    return given.rows
  })
}

check('Fill: image and mask next to the channels', 'fill', '', async (given) => {
  const images = { fill: { image: given.pixels('in.image_u8'), mask: given.bytes('in.mask_u8') } }
  const tokens = await encodeImages(images, given.inPixels, given.encoders)
  given.compare('out.img_cond', tokens.channels!)
  await given.run(await given.bind('flux-fill-tiny', tokens))
})

check('Canny and Depth: a control image next to the channels', 'control', '', async (given) => {
  const tokens = await encodeImages({ control: given.pixels('in.control_u8') }, given.inPixels, given.encoders)
  given.compare('out.img_cond', tokens.channels!)
  await given.run(await given.bind('flux-control-tiny', tokens))
})

check('Kontext: a reference image after the image tokens', 'kontext', '', async (given) => {
  const tokens = await encodeImages({ references: [given.pixels('in.reference_u8')] }, given.inPixels, given.encoders)
  given.compare('out.img_cond_seq', tokens.references!)
  given.compare('out.img_cond_seq_ids', tokens.referenceIds!)
  await given.run(await given.bind('flux-dev-tiny', tokens))
})

for (const name of ['a', 'b']) {
  check(`Kontext with two references, case ${name}`, 'kontext-two', name, async (given) => {
    const references = [given.pixels('in.reference_0_u8'), given.pixels('in.reference_1_u8')]
    const tokens = await encodeImages({ references }, given.inPixels, given.encoders)
    given.compare('out.img_cond_seq', tokens.references!)
    given.compare('out.img_cond_seq_ids', tokens.referenceIds!)
    await given.run(await given.bind('flux-dev-tiny', tokens))
    for (const placement of ['index', 'uxo'] as ReferencePlacement[]) {
      const placed = await encodeImages({ references, placement }, given.inPixels, given.encoders)
      given.compare(`out.${placement}.img_cond_seq_ids`, placed.referenceIds!)
      const predict = await given.bind('flux-dev-tiny', placed)
      given.compare(`out.${placement}.pred.0`, await predict(given.noise, given.floats('out.timesteps')[0]!))
    }
  })
}

for (const [file, name] of [
  ['img2img', ''],
  ['img2img-diffusers', 'a'],
  ['img2img-diffusers', 'b'],
  ['img2img-diffusers', 'edge'],
] as const) {
  check(`${file} ${name}: from an image with noise`, file, name, async (given) => {
    const { latents } = await given.startFrom(given.floats('out.timesteps')[0]!)
    await given.run(await given.bind('flux-dev-tiny'), { latents })
  })
}

for (const name of ['s085', 's100']) {
  check(`inpainting as diffusers does it, case ${name}`, 'inpaint', name, async (given) => {
    const { image, latents } = await given.startFrom(given.floats('out.timesteps')[0]!)
    const keep: Kept = { image, noise: given.noise, mask: given.floats('out.mask_packed'), rule: 'blend' }
    await given.run(await given.bind('flux-dev-tiny'), { latents, keep })
  })
}

for (const name of ['d100', 'd060']) {
  check(`inpainting as ComfyUI does it, case ${name}`, 'inpaint-comfy', name, async (given) => {
    const sigmas = [...given.floats('const.sigmas')]
    const { height, width } = given.inPixels
    const latent = await given.encode(toPlanes(given.pixels('in.image_u8')), height, width)
    const image = given.packed(latent)
    const latents = flow.noised(image, given.noise, sigmas[0]!)
    given.compare('out.x_t', given.unpacked(latents))
    const small = given.floats('out.mask_latent')
    const mask = given.packed(Float32Array.from({ length: 16 * small.length }, (_, i) => small[i % small.length]!))
    await given.run(await given.bind('flux-dev-tiny'), {
      latents,
      sigmas,
      keep: { image, noise: given.noise, mask, rule: 'denoised' },
    })
  })
}

for (const name of ['union', 'plain', 'gated', 'multi', 'multi_all', 'multi_union']) {
  check(`ControlNets as diffusers combines them, case ${name}`, 'controlnet', name, async (given) => {
    const [a, b] = [given.pixels('in.control_a_u8'), given.pixels('in.control_b_u8')]
    const union = await goldenWeights('controlnet-union-tiny')
    const plain = await goldenWeights('controlnet-tiny')
    const always = { start: 0, end: 1 }
    const nets: Record<string, ControlNetInput[]> = {
      union: [{ path: union, image: a, mode: 2, scale: 0.7, ...always }],
      plain: [{ path: plain, image: b, scale: 0.7, ...always }],
      gated: [{ path: union, image: a, mode: 7, scale: 0.7, start: 0.25, end: 0.75 }],
      multi: [
        { path: union, image: a, mode: 2, scale: 0.7, start: 0, end: 0.5 },
        { path: plain, image: b, scale: 0.4, start: 0.25, end: 1 },
      ],
      multi_all: [
        { path: union, image: a, mode: 2, scale: 0.7, ...always },
        { path: plain, image: b, scale: 0.4, ...always },
      ],
      multi_union: [
        { path: union, image: a, mode: 2, scale: 0.7, ...always },
        { path: union, image: b, mode: 7, scale: 0.4, ...always },
      ],
    }
    const inputs = { controlNets: nets[name]! }
    const flux = await given.transformer('flux-dev33-tiny')
    const attached = await checkImages(inputs, { transformer: { config: flux.config } } as never)
    const images = await encodeImages(inputs, { ...given.inPixels, attached }, given.encoders)
    await attachNetworks(flux, attached, new AbortController().signal)
    await given.run(await given.bind('flux-dev33-tiny', images))
  })
}

for (const [output, strength, strengthType] of [
  ['out.pred_strength_1', 1, 'multiply'],
  ['out.pred_strength_0.5', 0.5, 'multiply'],
  ['out.pred_attn_bias_0.5', 0.5, 'attn_bias'],
] as const) {
  check(`Redux: ${output}`, 'redux', '', async (given) => {
    const inputs = { redux: [{ image: given.pixels('in.pixels_u8'), strength, strengthType }] }
    const images = await encodeImages(inputs, given.inPixels, given.encoders)
    given.compare('out.projected', images.redux![0]!.tokens)
    const predict = await given.bind('flux-dev-tiny', images)
    given.compare(output, await predict(given.noise, given.floats('const.timestep')[0]!))
  })
}

for (const version of ['v1', 'v2'] as const) {
  check(`IP-Adapter ${version}`, 'ip-adapter', version, async (given) => {
    const path = await goldenWeights(`ip-adapter-${version}-tiny`)
    const inputs = {
      ipAdapters: [{ path, image: given.pixels('in.pixels_u8'), scale: given.floats('const.scale')[0]! }],
    }
    const images = await encodeImages(inputs, given.inPixels, given.encoders)
    given.compare('out.image_embeds', images.imagePrompts![0]!.embeds)
    const flux = await given.transformer('flux-dev33-tiny')
    const attached = await checkImages(inputs, { transformer: { config: flux.config }, clipVision: {} } as never)
    await attachNetworks(flux, attached, new AbortController().signal)
    await given.run(await given.bind('flux-dev33-tiny', images))
  })
}

/** The cases by their titles. */
export const goldenImageChecks: ReadonlyMap<string, Check> = checks
