import { FluxError } from '../errors.js'
import {
  denoiserOf,
  type Component,
  type Components,
  type Family,
  type NetworksOf,
  type Variant,
} from '../families/family.js'
import { familyOf, type ModelFiles } from '../families/registry.js'
import { isOnHub, refuseUnknownPreset } from '../hub/plan.js'
import { fromHub, type OpenNetworks, type PullOptions } from '../hub/pull.js'
import { tinyModelFiles } from '../model/bundled-model.js'
import { locateModelFiles, locateTokenizer } from '../model/locate.js'
import { checkModelFiles, placesOf, type ModelPlaces } from '../model/model-files.js'
import { openNetworkFile } from '../networks/network-file.js'
import { warnProcess } from '../options/warn.js'

/** The files of a model, checked individually and against each other; no weights are loaded yet. */
export interface OpenModel {
  family: Family
  /** by component */
  networks: NetworksOf<Components>
  tokenizers: Record<string, { size: number }>
}

/** A model without problems. */
export interface CompleteModel extends OpenModel {
  variant: Variant
}

/**
 * @param source 'tiny', a preset or a repository on the hub, a folder, or the files
 * @param hub how files on the hub are downloaded into the cache
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_DOWNLOAD, FLUX_BAD_FILE, FLUX_BAD_OPTION, FLUX_UNSUPPORTED, with the file;
 *   reports all problems at once, with the code of the first
 */
export async function openModel(source: string | ModelFiles, hub: PullOptions = {}): Promise<CompleteModel> {
  const { problems, ...model } = await checkModel(await resolveSource(source, hub))
  throwAll(problems)
  const variant = model.family.variant(model.networks)
  for (const warning of variant.warnings) (hub.onWarning ?? warnProcess)(warning)
  return { ...model, variant }
}

/** Opens what it can of a model and reports everything that prevents loading. A model without problems is complete. */
export async function checkModel(files: ModelFiles): Promise<OpenModel & { problems: FluxError[] }> {
  const problems: FluxError[] = []
  const noted = <T>(opening: Promise<T>): Promise<T | undefined> =>
    opening.catch((error: unknown) => {
      if (!(error instanceof FluxError)) throw error
      problems.push(error)
      return undefined
    })
  const places = placesOf(files)
  const family = await familyOfFiles(files)
  const networks: OpenNetworks = {}
  for (const [name, { kind }] of Object.entries(family.components)) {
    const path = places.components[name]
    const network = path === undefined ? undefined : await noted(openNetworkFile(kind, path))
    if (network) networks[name] = network
  }
  problems.push(...family.incompatibilities(networks))
  const tokenizers: OpenModel['tokenizers'] = {}
  for (const name of Object.keys(networks)) {
    const tokenizer = await noted(openTokenizer(family.components[name]!, name, networks[name]!, places))
    if (tokenizer) tokenizers[name] = tokenizer
  }
  return { family, networks, tokenizers, problems }
}

/** The component names determine the family. If they fit several families, the denoiser determines it. */
async function familyOfFiles(files: ModelFiles): Promise<Family> {
  const possible = checkModelFiles(files)
  const [first, ...others] = possible
  if (others.length === 0) return first!
  const name = denoiserOf(first!)
  const opening = openNetworkFile(first!.components[name]!.kind, placesOf(files).components[name]!)
  return familyOf(await opening.then((denoiser) => [denoiser]).catch(() => []), possible)
}

/** @returns undefined for a component that has no tokenizer */
export async function openTokenizer(
  { tokenizer }: Component,
  name: string,
  { file, config }: OpenNetworks[string],
  { components, tokenizers }: ModelPlaces,
): Promise<{ size: number } | undefined> {
  if (!tokenizer) return undefined
  const path = components[name] ?? ''
  const inside = tokenizer.inside !== undefined && file.metadata.has(tokenizer.inside) ? path : undefined
  const place = tokenizers[name] ?? inside ?? (await locateTokenizer(path, name, tokenizer))
  const opened = await tokenizer.load(place)
  // checked before gigabytes are loaded; spare rows are usual
  const { vocabSize } = config as { vocabSize: number }
  if (opened.size <= vocabSize) return opened
  const has = `the tokenizer in ${place} has ${opened.size} pieces, but ${file.path} takes ${vocabSize}`
  throw new FluxError('FLUX_BAD_FILE', `${has}; give the tokenizer that belongs to this encoder`)
}

function throwAll(problems: FluxError[]): void {
  const [first, ...more] = problems
  if (!first) return
  if (more.length === 0) throw first
  const list = problems.map(({ message }) => `\n- ${message}`).join('')
  throw new FluxError(first.code, `the model cannot be loaded, for ${problems.length} reasons:${list}`, {
    cause: first,
  })
}

/** Returns the files of a model on this machine; files on the hub are downloaded. */
export async function resolveSource(source: string | ModelFiles, hub: PullOptions = {}): Promise<ModelFiles> {
  if (source === 'tiny') return tinyModelFiles()
  if (typeof source !== 'string') {
    checkModelFiles(source)
    for (const path of Object.values(placesOf(source).components)) await refuseUnknownPreset(path)
  }
  if (isOnHub(source)) {
    return fromHub(source, hub, (family, networks, problems) =>
      throwAll([...problems, ...family.incompatibilities(networks)]),
    )
  }
  if (typeof source === 'string') return locateModelFiles(source)
  return source
}
