import type { Variant } from '../families/family.js'
import type { Conditioning } from '../families/conditioning.js'
import type { LatentFormat } from '../families/latent-format.js'
import type { LatentPreview } from '../families/latent-preview.js'
import { FluxError } from '../errors.js'
import { inBackground } from '../images/background.js'
import { encodeImage, loadEncoder } from '../images/encode.js'
import { resizeImage } from '../images/resize.js'
import type { Stage, StageEvent, StepEvent, WarningEvent } from '../jobs/events.js'
import type { Work } from '../jobs/job.js'
import { requireFinite } from '../networks/finite.js'
import type { LoraOptions } from '../networks/lora/assignment.js'
import type { VersionedPlan } from '../networks/lora/ensure-loras.js'
import type { LoadedNetwork } from '../networks/network.js'
import { untilAborted } from '../options/abort.js'
import { denoise } from '../sampling/denoise.js'
import { guidancePhase, guided } from '../sampling/guidance.js'
import { SAMPLERS, type Predict } from '../sampling/samplers.js'
import { slerp } from '../sampling/slerp.js'
import { StepCache } from '../sampling/step-cache.js'
import { stepNoise } from '../sampling/step-noise.js'
import { decodeState, previewOf } from './decode.js'
import type { Settings } from './generate-options.js'
import type { HiresSettings } from './hires-options.js'
import type { ModelNetworks } from './model-networks.js'
import type { PreparedImages } from './prepare-images.js'
import { startState } from './start-state.js'
import { upscaleImage } from './upscale-image.js'

/** One image of a request. */
export interface ImageTask {
  networks: ModelNetworks
  settings: Settings
  /** position in the series of the request */
  index: number
  /** the images of the request, at the size of the first pass */
  prepared: PreparedImages | undefined
  /** the same at the size of the second pass (`hires`) */
  large: PreparedImages | undefined
  /** the generation parameters as text */
  parameters: string
  signal: AbortSignal
}

/** What the passes of one image share. */
interface Run extends ImageTask {
  /** number of steps that are done, and of all */
  before: number
  steps: number
  conditioning: Conditioning
  negative: Conditioning | undefined
  denoiser: LoadedNetwork<object>
  loras: VersionedPlan
  /** undefined after one has failed */
  preview: Settings['preview']
  timings: Record<Stage, number>
}

/** Makes one image: encodes the prompt and the images, runs the steps, decodes. */
export async function* makeImage(task: ImageTask): ReturnType<Work> {
  const { networks, settings, index, prepared, large, parameters, signal } = task
  const { seed, hires, encode, images } = settings
  const { family, variant } = networks.model
  const { format = 'png' } = encode
  const timings: Record<Stage, number> = { text: 0, encode: 0, load: 0, denoise: 0, decode: 0 }
  await loadEncoder(format)
  yield { type: 'stage', stage: 'text' }
  const lap = stopwatch()
  const loras = await networks.plan(settings.loras)
  timings.load = lap()
  for (const message of unmatched(settings.loras, loras)) yield { type: 'warning', message }
  requireControl(loras, variant.reads, images?.controlImage !== undefined)
  const { conditioning, negative, ms: textMs } = await networks.encode(settings, loras, signal)
  timings.text = textMs
  lap()

  if (prepared && !prepared.encoded) {
    yield { type: 'stage', stage: 'encode' }
    prepared.encoded = await networks.encodeImages(prepared, signal)
    timings.encode = lap()
    networks.estimator.observe('encode', costOf(settings, prepared), timings.encode)
  }

  if (!networks.hasDenoiser) yield { type: 'stage', stage: 'load' }
  const denoiser = await networks.denoiser(loras, signal)
  await family.attach?.(denoiser as never, prepared?.attached ?? [], signal)
  timings.load += lap()

  yield { type: 'stage', stage: 'denoise' }
  const steps = settings.sigmas.length - 1 + (hires ? hires.sigmas.length - 1 : 0)
  const { preview } = settings
  const run: Run = { ...task, before: 0, steps, conditioning, negative, denoiser, loras, preview, timings }
  let last: Settings = settings
  let state = yield* runSteps(run, settings, prepared)
  if (hires) {
    last = { ...settings, ...hires }
    const image = yield* enlarge(run, state, hires)
    if (large && !large.encoded) {
      yield { type: 'stage', stage: 'encode' }
      lap()
      await denoiser.trim()
      large.encoded = await networks.encodeImages(large, signal)
      timings.encode += lap()
    }
    yield { type: 'stage', stage: 'denoise' }
    state = yield* runSteps(run, last, { encoded: { images: large?.encoded?.images, image } })
  }
  lap()

  yield { type: 'stage', stage: 'decode' }
  const { rgb, tile } = await decoded(run, state, last)
  const drawn = { data: rgb, width: last.width, height: last.height }
  const result = prepared ? await prepared.finish(drawn) : drawn
  const image = await untilAborted(
    encodeImage(result.data, result.width, result.height, { ...encode, parameters }),
    signal,
  )
  const ms = lap()
  timings.decode += ms
  if (tile === undefined) networks.estimator.observe('decode', last, ms)
  return {
    type: 'image',
    index,
    image,
    format,
    width: result.width,
    height: result.height,
    seed,
    parameters,
    truncated: conditioning.truncated,
    ...(tile === undefined ? {} : { tile }),
    timings,
  }
}

/** Runs the steps of one pass, and returns the state after the last one. */
async function* runSteps(
  run: Run,
  settings: Settings,
  prepared: Pick<PreparedImages, 'encoded' | 'mask'> | undefined,
): AsyncGenerator<StepEvent | WarningEvent, Float32Array, undefined> {
  const { networks, index, before, steps, timings, signal } = run
  const { family, variant } = networks.model
  const { latent } = variant
  const { sigmas } = settings
  const lap = stopwatch()
  const shape = { ...shapeOf(latent, settings), signal }
  const { keep, ...start } = await startState(family, variant, settings, prepared)
  let { latents } = start
  const { predict, evaluated } = predictor(run, settings, prepared?.encoded?.images)
  const noise = noiseOf(settings, latent)
  const { prediction } = family
  const input = { predict, latents, sigmas, sampler: SAMPLERS[settings.sampler], noise, prediction, keep, signal }
  for await (const state of denoise(input)) {
    const { sigma, sigmaNext } = state
    const step = before + state.step
    const { preview } = run
    latents = state.latents
    const ms = lap()
    timings.denoise += ms
    let shown: { preview?: LatentPreview } = {}
    if (preview && step % preview.every === 0) {
      try {
        const decoder = (stage: 'preview' | 'decode') => networks.decoder(stage, signal)
        shown = { preview: await previewOf(preview.method, { ...shape, state: state.denoised }, decoder) }
      } catch (error) {
        if (signal.aborted || !(error instanceof FluxError)) throw error
        run.preview = undefined
        yield {
          type: 'warning',
          message: `the preview of step ${step} failed, and there will be no more: ${error.message}`,
        }
      }
    }
    yield {
      type: 'step',
      index,
      step,
      steps,
      sigma,
      sigmaNext,
      ms,
      reused: !evaluated() && settings.stepCache > 0,
      ...shown,
    }
    lap()
  }
  run.before += sigmas.length - 1
  return latents
}

/**
 * Returns what the sampler calls for a prediction, with guidance and the step cache, and whether the network has been
 * evaluated since the last question.
 */
function predictor(
  { networks, conditioning, negative, denoiser, loras, prepared, signal }: Run,
  settings: Settings,
  images: unknown,
): { predict: Predict; evaluated: () => boolean } {
  const { model, estimator, denoiserName } = networks
  const cost = costOf(settings, prepared)
  let asked = false
  const bind = (conditioning: Conditioning): Predict => {
    const bound = model.family.bind(denoiser as never, { ...conditioning, images }, settings, signal)
    return async (x, sigma) => {
      asked = true
      const began = performance.now()
      const output = await networks.evaluate(denoiser, () => bound(x, sigma))
      estimator.observe('step', cost, performance.now() - began)
      const what = `the ${denoiserName}'s prediction at noise level ${sigma}`
      requireFinite(output, what, denoiser.path, loras.assigned[denoiserName])
      return output
    }
  }
  const { trueCfg, stepCache } = settings
  const evaluate = negative ? guided(bind(conditioning), bind(negative), trueCfg!) : bind(conditioning)
  const phase = trueCfg && guidancePhase(trueCfg)
  const predict = stepCache > 0 ? new StepCache(evaluate, stepCache, phase).predict : evaluate
  const evaluated = (): boolean => {
    const was = asked
    asked = false
    return was
  }
  return { predict, evaluated }
}

/** The noise that samplers add in the steps. */
function noiseOf(settings: Settings, latent: LatentFormat): ReturnType<typeof stepNoise> {
  const { seed, variation, noise: variant } = settings
  const { rows, columns } = shapeOf(latent, settings)
  const of = (seed: number) =>
    stepNoise({
      seed,
      shape: [1, latent.channels, rows, columns],
      variant,
      toState: (values) => latent.toState(values, rows, columns),
    })
  const own = of(seed)
  const other = variation && of(variation.seed)
  return other ? (...way) => slerp(own(...way), other(...way), variation.strength) : own
}

/** Enlarges the state after the first pass, as a latent or as an image. */
async function* enlarge(
  run: Run,
  state: Float32Array,
  { width, height, upscale, upscaler }: HiresSettings,
): AsyncGenerator<StageEvent, Float32Array, undefined> {
  const { networks, settings, timings, signal } = run
  const { latent } = networks.model.variant
  if (upscale === 'latent') {
    const from = shapeOf(latent, settings)
    const { rows, columns } = shapeOf(latent, { width, height })
    const latents = latent.toLatent(state, from.rows, from.columns)
    const sizes = [[from.rows, from.columns] as const, [rows, columns] as const] as const
    return latent.toState(await inBackground('enlargeLatent', [latents, ...sizes]), rows, columns)
  }
  yield { type: 'stage', stage: 'decode' }
  const lap = stopwatch()
  const { rgb: data } = await decoded(run, state, settings)
  const drawn = { data, width: settings.width, height: settings.height }
  const enlarged = upscaler === undefined ? drawn : await upscaleImage(drawn, upscaler, { ...networks.device, signal })
  const start = await resizeImage(enlarged, width, height, 'cover')
  timings.decode += lap()
  yield { type: 'stage', stage: 'encode' }
  const { image } = await networks.encodeImages({ inputs: {}, start, width, height }, signal)
  timings.encode += lap()
  return image!
}

/** Decodes a state. Each network frees its buffers before the next one starts: gigabytes at 1024 x 1024. */
async function decoded(
  { networks, denoiser, signal }: Run,
  state: Float32Array,
  settings: Settings,
): ReturnType<typeof decodeState> {
  await denoiser.trim()
  const decoder = await networks.decoder('decode', signal)
  const result = await decodeState(decoder, { ...shapeOf(networks.model.variant.latent, settings), state, signal })
  await decoder.trim()
  return result
}

/** What the cost of an image depends on. */
export const costOf = (settings: Settings, prepared: PreparedImages | undefined) => ({
  ...settings,
  ...(prepared ? { inputs: prepared.inputs, startsFromImage: prepared.start !== undefined } : {}),
  ...(prepared?.attached ? { attached: prepared.attached } : {}),
})

/** Returns a function that gives the milliseconds since its last call. */
function stopwatch(): () => number {
  let clock = performance.now()
  return () => -clock + (clock = performance.now())
}

function shapeOf(latent: LatentFormat, { width, height }: { width: number; height: number }) {
  return { latent, rows: height / latent.reduction, columns: width / latent.reduction }
}

/** Rejects a control image that nothing reads, and its absence where something needs one. */
function requireControl({ widening }: VersionedPlan, reads: Variant['reads'], given: boolean): void {
  if (widening !== undefined && !given)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `${widening}: this LoRA reads a control image (Canny, Depth); give controlImage`,
    )
  if (widening === undefined && given && reads !== 'control') {
    const remedy = 'give a model or a LoRA for control images (Canny, Depth), or leave controlImage out'
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `controlImage is given, but neither the model nor a LoRA reads it; ${remedy}`,
    )
  }
}

/** Reports, for each LoRA, the tensors that belong to no layer and have no effect. */
function unmatched(loras: readonly LoraOptions[], { unmatched: names }: VersionedPlan): string[] {
  return names.flatMap(([name, ...others], i) => {
    if (name === undefined) return []
    const names = others.length === 0 ? `tensor ${name} belongs` : `${others.length + 1} tensors, ${name} first, belong`
    return [`${loras[i]!.path}: ${names} to no layer of the model, and will do nothing`]
  })
}
