import { FluxError, type FluxErrorCode } from '../errors.js'
import { Estimator, type Estimate } from '../cost/estimate.js'
import { totalMemory } from '../native/free-memory.js'
import { isOnHub } from '../hub/plan.js'
import { readHubModel } from '../hub/pull.js'
import { inspectFile } from './file.js'
import type { Inspection } from './inspection.js'
import { completeLoadOptions, type LoadOptions } from '../pipeline/load-options.js'
import type { ModelFiles } from '../families/registry.js'
import { chooseModelFiles, surveyFolder } from '../model/locate.js'
import { checkModelFiles, placesOf } from '../model/model-files.js'
import { openModelFile } from '../formats/open.js'
import type { ModelFile } from '../formats/model-file.js'
import { tinyModelFiles } from '../model/bundled-model.js'
import { checkModel, openTokenizer, type OpenModel } from '../pipeline/open-model.js'

/** What a model is, according to the headers of its files, and what it would cost to use it on this machine. */
export interface ModelInspection {
  /** the model files that were found */
  files: Inspection[]
  /** everything that prevents loading it, each with its remedy; empty when it can be loaded */
  problems: string[]
  /** cost of an image with the model's defaults, if the model can be loaded and its files are on this machine */
  image?: Estimate & { width: number; height: number; steps: number }
  /** bytes of memory of this machine, or of its container */
  memory: number
}

/**
 * Describes a model and whether it can be used on this machine, without loading or downloading it. For a reference to
 * the hub, this is the model that `load` would download, with its encoders and autoencoder.
 *
 * @param source a folder, a preset or a repository on the hub, 'tiny', or the files
 * @param options the options of `load`; `signal` stops the requests
 * @throws {FluxError} FLUX_BAD_OPTION; FLUX_NOT_FOUND when nothing has this name; FLUX_DOWNLOAD; the signal's reason
 *   when aborted
 */
export async function inspectModel(source: string | ModelFiles, options: LoadOptions = {}): Promise<ModelInspection> {
  const { model, ...given } = completeLoadOptions(source, options)
  const { hub, signal } = given
  if (typeof model !== 'string') checkModelFiles(model)
  signal?.throwIfAborted()
  if (!isOnHub(model)) return inspectLocal(model, given)
  const { files, headers, family, networks, local, problems } = await readHubModel(model, {
    ...hub,
    ...(signal ? { signal } : {}),
  })
  if (files) return inspectLocal(files, given)
  const isLocal = (name: string) => local.components[name] !== undefined || local.tokenizers[name] !== undefined
  const opened = await Promise.allSettled(
    Object.entries(networks)
      .filter(([name]) => isLocal(name))
      .map(([name, network]) => openTokenizer(family.components[name]!, name, network, local)),
  )
  for (const { reason } of opened.filter((result) => result.status === 'rejected')) {
    if (!(reason instanceof FluxError)) throw reason
    problems.push(reason)
  }
  return inspection(headers, [...problems, ...family.incompatibilities(networks)])
}

async function inspectLocal(source: string | ModelFiles, options: LoadOptions): Promise<ModelInspection> {
  const problems: FluxError[] = []
  const noteUnless =
    (code?: FluxErrorCode) =>
    (error: unknown): undefined => {
      if (!(error instanceof FluxError) || error.code === code) throw error
      problems.push(error)
    }
  const isPlace = typeof source === 'string' && source !== 'tiny'
  const survey = isPlace ? await surveyFolder(source).catch(noteUnless('FLUX_NOT_FOUND')) : undefined
  const named = typeof source === 'string' ? tinyModelFiles() : source
  const located = isPlace ? survey && (await chooseModelFiles(source, survey).catch(noteUnless())) : named
  const opened = isPlace ? (survey?.files ?? []) : await openAll(named)
  const checked = located && (await checkModel(located))
  options.signal?.throwIfAborted()
  problems.push(...(checked?.problems ?? []))
  const told = await inspection(opened, problems)
  options.signal?.throwIfAborted()
  return checked && problems.length === 0 ? { ...told, image: await costOf(checked, options) } : told
}

async function inspection(files: ModelFile[], problems: FluxError[]): Promise<ModelInspection> {
  return {
    files: await Promise.all(files.map(inspectFile)),
    problems: problems.map(({ message }) => message),
    memory: totalMemory(),
  }
}

/** Opens the files that can be opened. Problems with the others are found when the model is checked. */
async function openAll(files: ModelFiles): Promise<ModelFile[]> {
  const opened = await Promise.all(
    [...new Set(Object.values(placesOf(files).components))].map((path) => openModelFile(path).catch(() => undefined)),
  )
  return opened.filter((file) => file !== undefined)
}

async function costOf(model: OpenModel, options: LoadOptions): Promise<NonNullable<ModelInspection['image']>> {
  const { width, height, steps, maxSequenceLength } = model.family.variant(model.networks).defaults
  const estimate = await new Estimator(model, options, options.textEncoders === 'keep').estimate({
    width,
    height,
    sigmas: new Array<number>(steps + 1).fill(0),
    maxSequenceLength,
  })
  return { width, height, steps, ...estimate }
}
