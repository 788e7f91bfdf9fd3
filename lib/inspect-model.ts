import { FluxError } from './errors.js'
import { Estimator, type Estimate } from './estimate.js'
import { totalMemory } from './free-memory.js'
import { isOnHub } from './hub/plan.js'
import { headersFromHub } from './hub/pull.js'
import { inspectFile, type Inspection } from './inspect.js'
import { locateModelFiles, modelFilesIn, type ModelFiles } from './models/locate.js'
import { modelDefaults } from './models/model-defaults.js'
import { openModelFile } from './models/model-file.js'
import { tinyModelFiles } from './models/tiny-model.js'
import type { NetworkOptions } from './network.js'
import { checkModel, type OpenModel } from './open-model.js'

/** What a model is, as far as the headers of its files tell, and what it would cost to use it here. */
export interface ModelInspection {
  /** the model files that were found */
  files: Inspection[]
  /** everything that stands against loading it, each with its remedy; empty when it can be loaded */
  problems: string[]
  /** a picture with the model's defaults, where it can be loaded and its files are on this machine */
  picture?: Estimate & { width: number; height: number; steps: number }
  /** bytes of this machine's memory, or of its container's */
  memory: number
}

/**
 * Tells what a model is and whether it can be used here, without loading or downloading it.
 *
 * @param source a folder, a preset or a place on the hub, 'tiny', or the files
 * @throws {FluxError} FLUX_NOT_FOUND where there is nothing of that name; FLUX_DOWNLOAD
 */
export async function inspectModel(source: string | ModelFiles, device: NetworkOptions = {}): Promise<ModelInspection> {
  if (isOnHub(source)) {
    const files = await Promise.all((await headersFromHub(source)).map(inspectFile))
    return { files, problems: files.flatMap(({ problems }) => problems), memory: totalMemory() }
  }
  const problems: FluxError[] = []
  const note = (error: unknown): undefined => {
    if (!(error instanceof FluxError)) throw error
    problems.push(error)
  }
  const files: Inspection[] = []
  const isFolder = typeof source === 'string' && source !== 'tiny'
  const paths = isFolder ? await modelFilesIn(source) : Object.values(partsOf(source))
  for (const path of new Set(paths)) {
    const file = await openModelFile(path).catch(isFolder ? note : () => undefined)
    if (file) files.push(await inspectFile(file))
  }
  const located = isFolder ? problems.length > 0 ? undefined : await locateModelFiles(source).catch(note) : modelOf(source)
  const checked = located && (await checkModel(located))
  problems.push(...(checked?.problems ?? []))
  const told = { files, problems: problems.map(({ message }) => message), memory: totalMemory() }
  return checked && problems.length === 0 ? { ...told, picture: await costOf(checked.model as OpenModel, device) } : told
}

function modelOf(source: string | ModelFiles): ModelFiles {
  return typeof source === 'string' ? tinyModelFiles() : source
}

function partsOf(source: string | ModelFiles): string[] {
  const { transformer, t5, clip, vae } = modelOf(source)
  return [transformer, t5, clip, vae]
}

async function costOf(model: OpenModel, device: NetworkOptions): Promise<NonNullable<ModelInspection['picture']>> {
  const { width, height, steps, maxSequenceLength } = modelDefaults(model.transformer.file, model.transformer.config)
  const estimate = await new Estimator(model, device, false).estimate({ width, height, sigmas: new Array<number>(steps + 1).fill(0), maxSequenceLength })
  return { width, height, steps, ...estimate }
}
