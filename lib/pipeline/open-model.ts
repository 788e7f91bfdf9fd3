import { defined } from '../options/defined.js'
import { FluxError, type FluxErrorCode } from '../errors.js'
import { isOnHub } from '../hub/plan.js'
import { fromHub, type PullOptions } from '../hub/pull.js'
import { checkModelFiles, locateModelFiles, locateTokenizer, type ModelFiles } from '../model/locate.js'
import { deDistilledTitle } from '../families/flux1/variants.js'
import { openNetworkFile, type NetworkFile, type Networks } from '../networks/network-file.js'
import { tinyModelFiles } from '../model/bundled-model.js'
import { CLIP_TOKENIZER_FILES, ClipTokenizer } from '../tokenizers/clip.js'
import { T5_TOKENIZER_FILES, T5Tokenizer } from '../tokenizers/t5.js'
import { warnProcess } from '../options/warn.js'

/** The files of a model, checked one by one and against each other; no weights are loaded yet. */
export interface OpenModel extends Networks {
  tokenizers: { t5: T5Tokenizer; clip: ClipTokenizer }
}

/**
 * @param source 'tiny', a preset or a place on the hub, a folder, or the files
 * @param hub how files on the hub are taken into the cache
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_DOWNLOAD, FLUX_BAD_FILE, FLUX_BAD_OPTION, FLUX_UNSUPPORTED, naming the file; all that is wrong
 *   at once, with the code of the first
 */
export async function openModel(source: string | ModelFiles, hub: PullOptions = {}): Promise<OpenModel> {
  const files = await resolveSource(source, hub)
  const { model, problems } = await checkModel(files)
  throwAll(problems)
  const { transformer } = model as OpenModel
  const title = deDistilledTitle(transformer.file, transformer.config)
  if (title !== undefined) (hub.onWarning ?? warnProcess)(deDistilled(transformer.file.path, title))
  return model as OpenModel
}

function deDistilled(path: string, title: string): string {
  const remedy = 'Give it about 28 steps and shift: true; what asks for true CFG stays weaker than its makers show'
  return `${path}: the model has no guidance, and its metadata calls it '${title}', so it is no schnell, though the defaults are schnell's. ${remedy}`
}

/** Opens what can be opened of a model, and tells everything that stands against loading it. */
export async function checkModel(files: ModelFiles): Promise<{ model: Partial<OpenModel>; problems: FluxError[] }> {
  const problems: FluxError[] = []
  const noted = <T>(opening: Promise<T>): Promise<T | undefined> =>
    opening.catch((error: unknown) => {
      if (!(error instanceof FluxError)) throw error
      problems.push(error)
      return undefined
    })
  const networks = defined({
    transformer: await noted(openNetworkFile('flux', files.transformer)),
    t5: await noted(openNetworkFile('t5', files.t5)),
    clip: await noted(openNetworkFile('clip', files.clip)),
    vae: await noted(openNetworkFile('autoencoder', files.vae)),
    previewDecoder:
      files.previewDecoder === undefined
        ? undefined
        : await noted(openNetworkFile('tiny-decoder', files.previewDecoder)),
  })
  problems.push(...misfits(networks))
  const t5 = networks.t5 && (await noted(openT5Tokenizer(networks.t5, files)))
  const clip = networks.clip && (await noted(openClipTokenizer(networks.clip, files)))
  return { model: { ...networks, ...(t5 && clip ? { tokenizers: { t5, clip } } : {}) }, problems }
}

export async function openT5Tokenizer(
  encoder: Networks['t5'],
  { t5, tokenizers }: Pick<ModelFiles, 't5' | 'tokenizers'>,
): Promise<T5Tokenizer> {
  const inside = encoder.file.metadata.has('tokenizer.ggml.tokens') ? t5 : undefined
  const place = tokenizers?.t5 ?? inside ?? (await locateTokenizer(t5, 'tokenizer_2', T5_TOKENIZER_FILES))
  return fitting(await T5Tokenizer.load(place), place, encoder)
}

export async function openClipTokenizer(
  encoder: Networks['clip'],
  { clip, tokenizers }: Pick<ModelFiles, 'clip' | 'tokenizers'>,
): Promise<ClipTokenizer> {
  const place = tokenizers?.clip ?? (await locateTokenizer(clip, 'tokenizer', CLIP_TOKENIZER_FILES))
  return fitting(await ClipTokenizer.load(place), place, encoder)
}

/** Refuses a tokenizer whose ids go past the encoder's table, before gigabytes are loaded for it. Spare rows are usual. */
function fitting<T extends { size: number }>(
  tokenizer: T,
  place: string,
  { file, config }: NetworkFile<{ vocabSize: number }>,
): T {
  if (tokenizer.size <= config.vocabSize) return tokenizer
  const has = `the tokenizer in ${place} has ${tokenizer.size} pieces, but ${file.path} takes ${config.vocabSize}`
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

/** The files of a model on this machine; those on the hub are taken from there. */
export async function resolveSource(source: string | ModelFiles, hub: PullOptions = {}): Promise<ModelFiles> {
  if (source === 'tiny') return tinyModelFiles()
  if (typeof source !== 'string') checkModelFiles(source)
  if (isOnHub(source))
    return fromHub(source, hub, (networks, problems) => throwAll([...problems, ...misfits(networks)]))
  if (typeof source === 'string') return locateModelFiles(source)
  return source
}

/** What is wrong with files that are sound each for itself, but of different models. */
export function misfits({ transformer, t5, clip, vae, previewDecoder }: Partial<Networks>): FluxError[] {
  const found: FluxError[] = []
  if (!transformer) return found
  const { inChannels, outChannels, contextInDim, vecInDim } = transformer.config
  const refuse = ({ file: { path } }: NetworkFile<unknown>, message: string, code: FluxErrorCode = 'FLUX_BAD_FILE') => {
    found.push(new FluxError(code, `${path} ${message}`))
  }
  if (inChannels !== 64) {
    const what = `takes ${inChannels} channels: it is a Fill, Canny or Depth model, which needs pictures as input`
    refuse(
      transformer,
      `${what}; text to image needs a model with 64, such as FLUX.1 dev or schnell`,
      'FLUX_UNSUPPORTED',
    )
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
  if (zChannels !== 16 || outChannels !== 64 || chMult.length !== 4) {
    const has = `has ${zChannels} channels in ${chMult.length} levels, and the transformer gives ${outChannels / 4}`
    refuse(vae, `${has}, where all should be 16 in 4 levels; give the autoencoder of FLUX.1 (ae.safetensors)`)
  } else if (!hasDecoder) refuse(vae, 'holds no decoder; give the complete autoencoder of FLUX.1 (ae.safetensors)')
  return found
}
