import { FluxError } from '../errors.js'
import type { NativeAddition } from '../native.js'
import { layerFinder, normFinder, type AdaptableNetwork, type LoraTarget } from './lora-layers.js'
import { openModelFile, type ModelFile, type TensorInfo } from './model-file.js'
import { readScalar } from './scalar.js'

/** What a LoRA adds to the linear layers of one network, and which scales of norms it replaces. */
export interface Lora {
  path: string
  layers: LoraLayer[]
  /**
   * channels of an image token that it needs, where that are more than the model has: the official LoRAs for Canny and Depth read the latents of a
   * control picture behind those of the picture itself
   */
  channels?: number
  /** names that belong to no layer of this network, or to nothing that is read */
  left: string[]
}

export interface LoraLayer {
  /** canonical name of the matrix, and the first of its rows that the addition belongs to */
  weight: string
  first: number
  kind: NativeAddition['kind']
  one: Factor
  two?: Factor
  bias?: TensorInfo
  /** alpha / rank, or 1 where the file has no alpha */
  scale: number
}

/** A matrix, or the product up * down of two. */
export interface Factor {
  down: TensorInfo
  up?: TensorInfo
}

/** What a tensor is to its layer. LoHa's and LoKr's `a` comes second, as LoRA's `up`. */
const ROLES = ['down', 'up', 'bias', 'alpha', 'hada_w1_a', 'hada_w1_b', 'hada_w2_a', 'hada_w2_b', 'lokr_w1', 'lokr_w1_a', 'lokr_w1_b', 'lokr_w2', 'lokr_w2_a', 'lokr_w2_b'] as const
type Role = (typeof ROLES)[number]

/** How files call them. */
const FORMS: readonly (readonly [suffix: RegExp, role: Role])[] = [
  [/\.lora_A(\.default)?\.weight$/, 'down'],
  [/\.lora_B(\.default)?\.weight$/, 'up'],
  [/\.lora_B(\.default)?\.bias$/, 'bias'],
  [/[._]lora[._]down\.weight$/, 'down'],
  [/[._]lora[._]up\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
  ...ROLES.slice(4).map((role) => [new RegExp(`\\.${role}$`), role] as const),
]
/** XLabs' processors: 1 for the picture, 2 for the text. */
const XLABS = /^double_blocks\.(\d+)\.processor\.(qkv|proj)_lora([12])\.(down|up)\.weight$/
const TYPES = ['F32', 'F16', 'BF16']
const MAX_RANK = 4096

type Parts = Partial<Record<Role, TensorInfo>>

/**
 * Reads what a LoRA's file has for a network: PEFT's and diffusers' names, ai-toolkit's, kohya's, OneTrainer's, XLabs', LyCORIS' (LoHa, LoKr),
 * or those of the official files.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE; FLUX_UNSUPPORTED for DoRA
 */
export async function openLora(path: string, network: AdaptableNetwork): Promise<Lora> {
  return loraOf(await openLoraFile(path), network)
}

export async function openLoraFile(path: string): Promise<ModelFile> {
  const file = await openModelFile(path)
  refuseOthers(file)
  return file
}

/** Whether a file has what is added to layers. */
export function looksLikeLora(file: ModelFile): boolean {
  return !file.parts && [...file.tensors.keys()].some((name) => /^(down|up|hada|lokr)/.test(partOf(name)?.[1] ?? ''))
}

/** What an open file has for a network. */
export async function loraOf(file: ModelFile, network: AdaptableNetwork): Promise<Lora> {
  const { path } = file
  const find = layerFinder(network)
  const found = new Map<string, Parts>()
  const left: string[] = []
  // a whole model has norms as well
  const additions = looksLikeLora(file)
  const findNorm = normFinder(network)
  const norms: LoraLayer[] = []
  for (const tensor of file.tensors.values()) {
    const norm = additions && findNorm(tensor.name)
    const [layer, role] = partOf(tensor.name) ?? []
    if (norm) norms.push(replacementOf(path, tensor, norm))
    else if (layer === undefined || role === undefined || !find(layer)) left.push(tensor.name)
    else found.set(layer, { ...found.get(layer), [role]: tensor })
  }
  const layers = await Promise.all([...found].map(([layer, parts]) => layerOf(path, layer, parts, find(layer)!)))
  const channels = layers.find(({ weight }) => weight === IMAGE_INPUT)?.one.down.shape[1]
  const widens = network.kind === 'flux' && channels !== undefined && channels > network.config.inChannels
  return { path, layers: [...layers, ...norms], ...(widens ? { channels } : {}), left }
}

/** The one layer that a LoRA may widen. */
const IMAGE_INPUT = 'img_in.weight'

function replacementOf(path: string, tensor: TensorInfo, { name, length }: { name: string; length: number }): LoraLayer {
  const { type, shape } = tensor
  if (!TYPES.includes(type)) throw new FluxError('FLUX_UNSUPPORTED', `${path}: tensor ${tensor.name} has type ${type}; ${TYPES.join(', ')} are read. Use a version in one of these`)
  if (shape.length !== 1 || shape[0] !== length) {
    throw new FluxError('FLUX_BAD_FILE', `${path}: tensor ${tensor.name} has shape [${shape.join(', ')}], but [${length}] is needed. Use another copy of the LoRA`)
  }
  return { weight: name, first: 0, kind: 'replacement', one: { down: { ...tensor, shape: [length, 1] } }, scale: 1 }
}

function refuseOthers(file: ModelFile): void {
  if (file.parts) throw new FluxError('FLUX_UNSUPPORTED', `${file.path}: this is a part of a split model. A LoRA is one file`)
  const dora = [...file.tensors.keys()].find((name) => /\.(dora_scale|lora_magnitude_vector)(\.|$)/.test(name))
  if (dora === undefined) return
  throw new FluxError('FLUX_UNSUPPORTED', `${file.path}: this is a DoRA (${dora}), which is not read. Use a LoRA, or merge it into the model with the tool that made it`)
}

function partOf(name: string): [layer: string, role: Role] | undefined {
  const xlabs = XLABS.exec(name)
  if (xlabs) return [`double_blocks.${xlabs[1]}.${xlabs[3] === '1' ? 'img' : 'txt'}_attn.${xlabs[2]}`, xlabs[4] as Role]
  const form = FORMS.find(([suffix]) => suffix.test(name))
  return form && [name.replace(form[0], ''), form[1]]
}

async function layerOf(path: string, layer: string, parts: Parts, { weight, first, rows, input }: LoraTarget): Promise<LoraLayer> {
  const fail = (message: string): never => {
    throw new FluxError('FLUX_BAD_FILE', `${path}: ${message}. Use another copy of the LoRA`)
  }
  for (const { name, type, shape } of Object.values(parts)) {
    if (!TYPES.includes(type)) throw new FluxError('FLUX_UNSUPPORTED', `${path}: tensor ${name} has type ${type}; ${TYPES.join(', ')} are read. Use a version in one of these`)
    if (name === parts.alpha?.name || name === parts.bias?.name) continue
    if (shape.length !== 2) fail(`tensor ${name} has shape [${shape.join(', ')}]; two dimensions are expected`)
    if (shape.some((size) => size < 1)) fail(`tensor ${name} has no numbers`)
  }
  const { kind, one, two } = formOf(layer, parts, fail)
  for (const { down, up } of two ? [one, two] : [one]) {
    if (!up) continue
    const rank = down.shape[0]!
    if (rank > MAX_RANK) fail(`tensor ${down.name} has rank ${rank}; 1 to ${MAX_RANK} are possible`)
    if (up.shape[1] !== rank) fail(`tensor ${up.name} has shape [${up.shape.join(', ')}], but rank ${rank} is needed`)
  }
  const [outer, inner] = [sizeOf(one), two && sizeOf(two)]
  const [out, takes] = inner && kind === 'kronecker' ? [outer.out * inner.out, outer.in * inner.in] : [outer.out, outer.in]
  const widens = kind === 'product' && weight === IMAGE_INPUT && takes > input
  if (takes !== input && !widens) fail(`tensor ${one.down.name} takes ${takes} numbers, but ${weight} of this model takes ${input}`)
  if (out !== rows) fail(`tensor ${(one.up ?? one.down).name} gives ${out} numbers, but ${rows} are needed for ${weight}`)
  if (inner && kind === 'hadamard' && (inner.out !== out || inner.in !== takes)) fail(`tensor ${two!.down.name} makes another matrix than ${one.down.name}`)
  const { alpha, bias } = parts
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== rows)) fail(`tensor ${bias.name} has shape [${bias.shape.join(', ')}], but [${rows}] is needed`)
  // a LoKr of two whole matrices has no rank, and its alpha means nothing
  const ranked = kind === 'kronecker' ? [two!, one].find(({ up }) => up) : one
  const rank = ranked?.down.shape[0]
  const value = alpha && rank ? await readScalar(path, alpha) : (rank ?? 1)
  if (!Number.isFinite(value)) fail(`tensor ${alpha!.name} is ${value}`)
  return { weight, first, kind, one, ...(two ? { two } : {}), ...(bias ? { bias } : {}), scale: value / (rank ?? 1) }
}

/** Which of the three a layer's tensors make. Sources: huggingface/peft; KohakuBlueleaf/LyCORIS, functional/loha.py and lokr.py. */
function formOf(layer: string, parts: Parts, fail: (message: string) => never): { kind: NativeAddition['kind']; one: Factor; two?: Factor } {
  const { down, up, hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b, lokr_w1, lokr_w1_a, lokr_w1_b, lokr_w2, lokr_w2_a, lokr_w2_b } = parts
  const product = (down: TensorInfo | undefined, up: TensorInfo | undefined): Factor | undefined => (down && up ? { down, up } : undefined)
  if (down && up) return { kind: 'product', one: { down, up } }
  const [h1, h2] = [product(hada_w1_b, hada_w1_a), product(hada_w2_b, hada_w2_a)]
  if (h1 && h2) return { kind: 'hadamard', one: h1, two: h2 }
  const whole = (matrix: TensorInfo | undefined): Factor | undefined => matrix && { down: matrix }
  const [k1, k2] = [whole(lokr_w1) ?? product(lokr_w1_b, lokr_w1_a), whole(lokr_w2) ?? product(lokr_w2_b, lokr_w2_a)]
  if (k1 && k2) return { kind: 'kronecker', one: k1, two: k2 }
  const has = Object.values(parts).map(({ name }) => name.slice(layer.length + 1))
  const lacks = down ? 'a first matrix (down, A) and no second (up, B)' : up ? 'a second matrix (up, B) and no first (down, A)' : `${has.join(', ')} and not all that belongs to it`
  return fail(`${layer} has ${lacks}`)
}

export function sizeOf({ down, up }: Factor): { in: number; out: number } {
  return { in: down.shape[1]!, out: (up ?? down).shape[0]! }
}
