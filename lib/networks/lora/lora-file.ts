import { FluxError } from '../../errors.js'
import type { NativeAdapter } from '../../native/addon.js'
import { doraField, loraConfig, scaleFinder } from './config.js'
import { layerFinder, loraNames, type AdaptableNetwork, type LoraTarget } from './layer-names.js'
import { openModelFile } from '../../formats/open.js'
import type { ModelFile, TensorInfo } from '../../formats/model-file.js'
import { DORA_MARKS, LORA_REMARKS, LORA_SUFFIXES, WHOLE_NORM, type LoraRole } from './names.js'
import { readScalars } from '../../formats/scalar-tensor.js'

/** The changes that a LoRA makes to one network. */
export interface Lora {
  path: string
  layers: LoraLayer[]
  /**
   * The number of channels of an image token that it needs, if the model has fewer. The official LoRAs for Canny and
   * Depth read the latents of a control image after those of the image itself.
   */
  channels?: number
  /** names that match no layer of this network, or a role that is not supported */
  unmatched: string[]
}

/** The change that a LoRA makes to one matrix or vector, as {@link NativeAdapter}. */
export interface LoraLayer {
  /** canonical name, and the first of the rows that change */
  weight: string
  firstRow: number
  kind: NativeAdapter['kind']
  left: Factor
  right?: Factor
  /** alpha / rank, or 1 if the file has no alpha */
  scale: number
  halvesSwapped?: true
}

/** A matrix, or the product up * down of two. */
export interface Factor {
  down: TensorInfo
  up?: TensorInfo
}

const TYPES = ['F32', 'F16', 'BF16']
const MAX_RANK = 4096

type Parts = Partial<Record<LoraRole, TensorInfo>>

/** A layer of the file: its name there, and its tensors. */
interface FoundLayer {
  layer: string
  target: LoraTarget
  parts: Parts
}

/**
 * Reads the part of a LoRA's file that belongs to a network, with any of the names in `names.ts`.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE; FLUX_UNSUPPORTED for DoRA
 */
export async function openLora(path: string, network: AdaptableNetwork): Promise<Lora> {
  return loraOf(await openLoraFile(path), network)
}

export async function openLoraFile(path: string): Promise<ModelFile> {
  const file = await openModelFile(path)
  requireLora(file)
  return file
}

/** Whether a file contains additions to layers. */
export function looksLikeLora(file: ModelFile): boolean {
  return !file.parts && [...file.tensors.keys()].some((name) => ![undefined, 'alpha'].includes(partOf(name)?.[1]))
}

/** Reads the part of an open file that belongs to a network. */
export async function loraOf(file: ModelFile, network: AdaptableNetwork): Promise<Lora> {
  const { path } = file
  const names = loraNames(network.kind)
  const { found, unmatched } = findLayers(file, network)
  // of a file that is still on the hub only the header is known
  const isHere = file.read?.length !== 0
  const alphas = await readScalars(path, isHere ? found.flatMap(({ parts: { alpha } }) => alpha ?? []) : [])
  const scaleOf = scaleFinder(path, loraConfig(file), names)
  const layers = found.flatMap((one) => adaptersOf(path, one, alphas, scaleOf, names.widens))
  const input = found.find(({ target }) => target.weight === names.widens)?.target.input ?? Infinity
  const channels = layers.find(({ weight, kind }) => weight === names.widens && kind === 'product')?.left.down.shape[1]
  return { path, layers, ...(channels !== undefined && channels > input ? { channels } : {}), unmatched }
}

/** @throws {FluxError} FLUX_UNSUPPORTED for a part of a split model or a DoRA */
export function requireLora(file: ModelFile): void {
  if (file.parts)
    throw new FluxError('FLUX_UNSUPPORTED', `${file.path}: this is a part of a split model. A LoRA is one file`)
  const dora = [...file.tensors.keys()].find((name) => DORA_MARKS.test(name)) ?? doraField(loraConfig(file))
  if (dora === undefined) return
  throw new FluxError(
    'FLUX_UNSUPPORTED',
    `${file.path}: this is a DoRA (${dora}), which is not read. Use a LoRA, or merge it into the model with the tool that made it`,
  )
}

/** Sorts the file's tensors by layers of the network. */
function findLayers(file: ModelFile, network: AdaptableNetwork): { found: FoundLayer[]; unmatched: string[] } {
  const find = layerFinder(network)
  const found = new Map<string, FoundLayer>()
  const unmatched: string[] = []
  // a whole model has norms as well
  const withNorms = looksLikeLora(file)
  for (const [name, tensor] of file.tensors) {
    if (LORA_REMARKS.test(name)) continue
    const [layer, role] =
      partOf(name) ?? (withNorms && WHOLE_NORM.test(name) ? [name.replace(WHOLE_NORM, ''), 'set' as const] : [])
    const target = layer === undefined ? undefined : find(layer)
    if (layer === undefined || role === undefined || !target || !suits(role, target)) {
      unmatched.push(name)
      continue
    }
    const place = `${target.weight} ${target.firstRow} ${target.rows}`
    const known = found.get(place) ?? { layer, target, parts: {} }
    // a tensor that appears twice, with the names of two programs, is used once
    if (known.layer !== layer || known.parts[role]) unmatched.push(name)
    else known.parts[role] = tensor
    found.set(place, known)
  }
  return { found: [...found.values()], unmatched }
}

function partOf(name: string): [layer: string, role: LoraRole] | undefined {
  const form = LORA_SUFFIXES.find(([suffix]) => suffix.test(name))
  return form && [name.replace(form[0], ''), form[1]]
}

/**
 * Whether a layer has the matrix or bias that a tensor changes. Linear layers have a matrix, some layers have a bias.
 */
function suits(role: LoraRole, { input, bias }: LoraTarget): boolean {
  if (role === 'up_bias' || role === 'diff_b') return bias !== undefined
  return role === 'diff' || (role === 'set') === (input === undefined)
}

/** @throws {FluxError} FLUX_BAD_FILE, FLUX_UNSUPPORTED */
function adaptersOf(
  path: string,
  found: FoundLayer,
  alphas: ReadonlyMap<string, number>,
  scaleOf: (layer: string, rank: number) => number,
  widens: string | undefined,
): LoraLayer[] {
  const { layer, target, parts } = found
  const { weight, bias, firstRow, rows, input, halvesSwapped } = target
  const fail = (message: string): never => {
    throw new FluxError('FLUX_BAD_FILE', `${path}: ${message}. Use another copy of the LoRA`)
  }
  const { alpha, ...others } = parts
  for (const { name, type } of Object.values(others)) {
    if (TYPES.includes(type)) continue
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${path}: tensor ${name} has type ${type}; ${TYPES.join(', ')} are read. Use a version in one of these`,
    )
  }
  const { up_bias, diff, diff_b, set, ...low } = others
  const swap = halvesSwapped ? { halvesSwapped } : {}
  const whole = (
    weight: string,
    kind: 'difference' | 'replacement',
    tensor: TensorInfo,
    columns?: number,
    scale = 1,
  ): LoraLayer => {
    const { name, shape } = tensor
    const needed = columns === undefined ? [rows] : [rows, columns]
    if (`${shape}` !== `${needed}`)
      fail(`tensor ${name} has shape [${shape.join(', ')}], but [${needed.join(', ')}] is needed`)
    return { weight, firstRow, kind, left: { down: { ...tensor, shape: [rows, columns ?? 1] } }, scale, ...swap }
  }
  const adapters: LoraLayer[] = []
  if (Object.keys(low).length > 0 || !(diff ?? diff_b ?? set)) {
    const { rank, ...form } = lowRank(layer, { ...low, ...(alpha ? { alpha } : {}) }, target, widens, fail)
    const value = alpha && alphas.get(alpha.name)
    if (value !== undefined && !Number.isFinite(value)) fail(`tensor ${alpha!.name} is ${value}`)
    // a LoKr of two whole matrices has no rank, so its alpha has no meaning
    const scale =
      rank === undefined ? 1 : value !== undefined ? value / rank : form.kind === 'product' ? scaleOf(layer, rank) : 1
    adapters.push({ weight, firstRow, ...form, scale, ...swap })
    if (up_bias) adapters.push(whole(bias!, 'difference', up_bias, undefined, scale))
  }
  if (diff) adapters.push(whole(weight, 'difference', diff, input))
  if (diff_b) adapters.push(whole(bias!, 'difference', diff_b))
  if (set) adapters.push(whole(weight, 'replacement', set))
  return adapters
}

/** The matrix from a linear layer's tensors, and the rank that its alpha is divided by. */
function lowRank(
  layer: string,
  parts: Parts,
  { weight, rows, input = 1 }: LoraTarget,
  widens: string | undefined,
  fail: (message: string) => never,
): ReturnType<typeof formOf> & { rank: number | undefined } {
  for (const { name, shape } of Object.values(parts)) {
    if (name === parts.alpha?.name) continue
    if (shape.length !== 2) fail(`tensor ${name} has shape [${shape.join(', ')}]; two dimensions are expected`)
    if (shape.some((size) => size < 1)) fail(`tensor ${name} has no numbers`)
  }
  const { kind, left, right } = formOf(layer, parts, fail)
  for (const { down, up } of right ? [left, right] : [left]) {
    if (!up) continue
    const rank = down.shape[0]!
    if (rank > MAX_RANK) fail(`tensor ${down.name} has rank ${rank}; 1 to ${MAX_RANK} are possible`)
    if (up.shape[1] !== rank) fail(`tensor ${up.name} has shape [${up.shape.join(', ')}], but rank ${rank} is needed`)
  }
  const [outer, inner] = [sizeOf(left), right && sizeOf(right)]
  const [out, takes] =
    inner && kind === 'kronecker' ? [outer.out * inner.out, outer.in * inner.in] : [outer.out, outer.in]
  const wider = kind === 'product' && weight === widens && takes > input
  if (takes !== input && !wider)
    fail(`tensor ${left.down.name} takes ${takes} numbers, but ${weight} of this model takes ${input}`)
  if (out !== rows)
    fail(`tensor ${(left.up ?? left.down).name} gives ${out} numbers, but ${rows} are needed for ${weight}`)
  if (inner && kind === 'hadamard' && (inner.out !== out || inner.in !== takes))
    fail(`tensor ${right!.down.name} makes another matrix than ${left.down.name}`)
  const ranked = kind === 'kronecker' ? [right!, left].find(({ up }) => up) : left
  return { kind, left, ...(right ? { right } : {}), rank: ranked?.down.shape[0] }
}

/**
 * Determines which of the three forms a layer's tensors have. Sources: huggingface/peft; KohakuBlueleaf/LyCORIS,
 * functional/loha.py and lokr.py.
 */
function formOf(
  layer: string,
  parts: Parts,
  fail: (message: string) => never,
): Pick<LoraLayer, 'kind' | 'left' | 'right'> {
  const {
    down,
    up,
    hada_w1_a,
    hada_w1_b,
    hada_w2_a,
    hada_w2_b,
    lokr_w1,
    lokr_w1_a,
    lokr_w1_b,
    lokr_w2,
    lokr_w2_a,
    lokr_w2_b,
  } = parts
  const product = (down: TensorInfo | undefined, up: TensorInfo | undefined): Factor | undefined =>
    down && up ? { down, up } : undefined
  if (down && up) return { kind: 'product', left: { down, up } }
  const [h1, h2] = [product(hada_w1_b, hada_w1_a), product(hada_w2_b, hada_w2_a)]
  if (h1 && h2) return { kind: 'hadamard', left: h1, right: h2 }
  const whole = (matrix: TensorInfo | undefined): Factor | undefined => matrix && { down: matrix }
  const [k1, k2] = [whole(lokr_w1) ?? product(lokr_w1_b, lokr_w1_a), whole(lokr_w2) ?? product(lokr_w2_b, lokr_w2_a)]
  if (k1 && k2) return { kind: 'kronecker', left: k1, right: k2 }
  const has = Object.values(parts).map(({ name }) => name.slice(layer.length + 1))
  const lacks = down
    ? 'a first matrix (down, A) and no second (up, B)'
    : up
      ? 'a second matrix (up, B) and no first (down, A)'
      : `${has.join(', ')} and not all that belongs to it`
  return fail(`${layer} has ${lacks}`)
}

export function sizeOf({ down, up }: Factor): { in: number; out: number } {
  return { in: down.shape[1]!, out: (up ?? down).shape[0]! }
}
