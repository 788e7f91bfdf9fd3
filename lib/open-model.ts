import { FluxError } from './errors.js'
import { isOnHub } from './hub/plan.js'
import { fromHub, type PullOptions } from './hub/pull.js'
import { checkModelFiles, locateModelFiles, locateTokenizer, type ModelFiles } from './models/locate.js'
import { openNetworkFile, type NetworkFile, type Networks } from './models/network-file.js'
import { tinyModelFiles } from './models/tiny-model.js'
import { CLIP_TOKENIZER_FILES, ClipTokenizer } from './tokenizers/clip.js'
import { T5_TOKENIZER_FILES, T5Tokenizer } from './tokenizers/t5.js'

/** The files of a model, checked one by one and against each other; no weights are loaded yet. */
export interface OpenModel extends Networks {
  tokenizers: { t5: T5Tokenizer; clip: ClipTokenizer }
}

/**
 * @param source 'tiny', a preset or a place on the hub, a folder, or the files
 * @param hub how files on the hub are taken into the cache
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_DOWNLOAD, FLUX_BAD_FILE, FLUX_BAD_OPTION, FLUX_UNSUPPORTED, naming the file
 */
export async function openModel(source: string | ModelFiles, hub: PullOptions = {}): Promise<OpenModel> {
  const files = await resolveSource(source, hub)
  const networks = {
    transformer: await openNetworkFile('flux', files.transformer),
    t5: await openNetworkFile('t5', files.t5),
    clip: await openNetworkFile('clip', files.clip),
    vae: await openNetworkFile('autoencoder', files.vae),
  }
  checkFit(networks)
  const inside = networks.t5.file.metadata.has('tokenizer.ggml.tokens') ? files.t5 : undefined
  const t5 = files.tokenizers?.t5 ?? inside ?? (await locateTokenizer(files.t5, 'tokenizer_2', T5_TOKENIZER_FILES))
  const clip = files.tokenizers?.clip ?? (await locateTokenizer(files.clip, 'tokenizer', CLIP_TOKENIZER_FILES))
  return { ...networks, tokenizers: { t5: await T5Tokenizer.load(t5), clip: await ClipTokenizer.load(clip) } }
}

/** The files of a model on this machine; those on the hub are taken from there. */
export async function resolveSource(source: string | ModelFiles, hub: PullOptions = {}): Promise<ModelFiles> {
  if (source === 'tiny') return tinyModelFiles()
  if (typeof source !== 'string') checkModelFiles(source)
  if (isOnHub(source)) return fromHub(source, hub, checkFit)
  if (typeof source === 'string') return locateModelFiles(source)
  return source
}

/** Files that are sound each for itself, but of different models. */
function checkFit({ transformer, t5, clip, vae }: Networks): void {
  const { inChannels, outChannels, contextInDim, vecInDim } = transformer.config
  if (inChannels !== 64) {
    const what = `${transformer.file.path} takes ${inChannels} channels: it is a Fill, Canny or Depth model, which needs pictures as input`
    throw new FluxError('FLUX_UNSUPPORTED', `${what}; text to image needs a model with 64, such as FLUX.1 dev or schnell`)
  }
  const refuse = ({ file: { path } }: NetworkFile<unknown>, message: string): never => {
    throw new FluxError('FLUX_BAD_FILE', `${path} ${message}`)
  }
  const { dModel } = t5.config
  if (dModel !== contextInDim) {
    const what = `gives states of width ${dModel}, but the transformer takes ${contextInDim}`
    refuse(t5, `${what}; give the T5 encoder of this model (FLUX.1: T5 v1.1 XXL)`)
  }
  const { hiddenSize } = clip.config
  if (hiddenSize !== vecInDim) {
    const what = `gives a vector of ${hiddenSize}, but the transformer takes ${vecInDim}`
    refuse(clip, `${what}; give the CLIP encoder of this model (FLUX.1: CLIP-L)`)
  }
  const { zChannels, chMult, hasDecoder } = vae.config
  if (zChannels !== 16 || outChannels !== 64 || chMult.length !== 4) {
    const has = `has ${zChannels} channels in ${chMult.length} levels, and the transformer gives ${outChannels / 4}`
    refuse(vae, `${has}, where all should be 16 in 4 levels; give the autoencoder of FLUX.1 (ae.safetensors)`)
  }
  if (!hasDecoder) refuse(vae, 'holds no decoder; give the complete autoencoder of FLUX.1 (ae.safetensors)')
}
