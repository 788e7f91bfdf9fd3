import { FluxError } from '../errors.js'
import type { TensorInfo } from '../formats/model-file.js'
import { joined, placed, rowsOf, type PlacedTensor } from './tensor-slices.js'

/** The tensor names of one network in files, and how to convert them to canonical names. */
export interface NameTable {
  /**
   * optional prefixes of all names; the first prefix with any of `marks` is used, and names without it belong to other
   * networks
   */
  prefixes: readonly string[]
  /** patterns for names without the prefix, and their replacements; the first match is used */
  renames: readonly Rename[]
  /** second names of the same tensor, used only if the tensor itself is missing */
  aliases: Readonly<Record<string, string>>
  /** canonical names of tensors that the network does not use */
  ignored: readonly RegExp[]
  /** canonical names; any of them shows that the file contains the network */
  marks: readonly string[]
  /** a canonical name that shows another network, which shares names with this one */
  excludes?: RegExp
}

/** `how` is left out if the tensor differs from the canonical one only in its name. */
export type Rename = readonly [from: RegExp, to: string, how?: Change]

/** How a tensor is converted to a canonical one, or to a part of it. */
export type Change =
  /** it is the part `index` of `of` parts, which are stacked vertically */
  | { part: number; of: number }
  /** its rows are equal parts of the canonical tensors whose names have these words in place of `*` */
  | { split: readonly string[] }
  /** its upper and lower halves are swapped */
  | 'halves swapped'
  /** a linear layer that represents a convolution of 1 x 1 */
  | '1 x 1'

type Named = (readonly [canonicalName: string, tensor: PlacedTensor, part?: { part: number; of: number }])[]

/** Whether the file contains the network, completely or in part. */
export function holdsNetwork(tensors: Map<string, TensorInfo>, table: NameTable): boolean {
  return table.prefixes.some((prefix) => {
    const names = [...tensors.keys()].filter((name) => name.startsWith(prefix))
    return isUnder(prefix, names, table)
  })
}

function isUnder(prefix: string, names: string[], table: NameTable): boolean {
  const canonical = (name: string) => canonicalName(name.slice(prefix.length), table)
  const { excludes, marks } = table
  return (
    names.some((name) => marks.includes(canonical(name))) &&
    !(excludes && names.some((name) => excludes.test(canonical(name))))
  )
}

/**
 * The tensors of one network by canonical names, without the ignored ones. Tensors that the network does not know keep
 * their names. Returns `undefined` if the file does not contain the network.
 *
 * @throws {FluxError} FLUX_BAD_FILE if two names mean the same tensor, or a part of one is missing; FLUX_UNSUPPORTED if
 *   parts have different types, or matrices are packed
 */
export function canonicalTensors(
  tensors: Map<string, TensorInfo>,
  table: NameTable,
): Map<string, PlacedTensor> | undefined {
  for (const prefix of table.prefixes) {
    const under = [...tensors.values()].filter(({ name }) => name.startsWith(prefix))
    if (
      !isUnder(
        prefix,
        under.map(({ name }) => name),
        table,
      )
    )
      continue
    refusePacked(under)
    const scaled = foldScales(under.map(placed))
    return collect(
      scaled.flatMap((tensor) => changed(tensor, tensor.name.slice(prefix.length), table)),
      table,
    )
  }
  return undefined
}

const ruleOf = (name: string, { renames }: NameTable): Rename | undefined => renames.find(([from]) => from.test(name))

function canonicalName(name: string, table: NameTable): string {
  const rule = ruleOf(name, table)
  return rule ? name.replace(rule[0], rule[1]) : name
}

/** The canonical tensors that a tensor is converted to, or is a part of. */
function changed(tensor: PlacedTensor, name: string, table: NameTable): Named {
  const rule = ruleOf(name, table)
  if (!rule) return [[name, tensor]]
  const [from, to, how] = rule
  const canonical = name.replace(from, to)
  if (how === undefined) return [[canonical, tensor]]
  if (how === 'halves swapped') return [[canonical, joined([rowsOf(tensor, 1, 2), rowsOf(tensor, 0, 2)])]]
  // applies to weights, not to their biases
  if (how === '1 x 1')
    return [[canonical, tensor.shape.length === 2 ? { ...tensor, shape: [...tensor.shape, 1, 1] } : tensor]]
  if ('split' in how)
    return how.split.map((word, i) => [canonical.replace('*', word), rowsOf(tensor, i, how.split.length)] as const)
  return [[canonical, tensor, how]]
}

/** Names of tensors next to matrices that other programs have packed, and the packed formats. */
const PACKED: readonly (readonly [mark: RegExp, what: string])[] = [
  [/\.quant_state\.bitsandbytes__nf4$/, 'NF4 (bitsandbytes)'],
  [/\.quant_state\.bitsandbytes__fp4$/, 'FP4 (bitsandbytes)'],
  [/\.SCB$/, 'INT8 (bitsandbytes)'],
  [/\.weight_scale_2$/, 'NVFP4'],
  [/\.qweight$/, 'integers of GPTQ, AWQ or SVDQuant'],
]

function refusePacked(tensors: TensorInfo[]): void {
  for (const [mark, what] of PACKED) {
    const tensor = tensors.find(({ name }) => mark.test(name))
    if (!tensor) continue
    const remedy =
      'Use a GGUF version (Q4_K_S is as small, Q8_0 closer to the original) or a float8 version with one scale for each tensor'
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `its matrices are packed in ${what}, as tensor ${tensor.name} shows, and cannot be read. ${remedy}`,
    )
  }
}

/**
 * Combines the scales of float8 weights, and the other tensors that accompany them (`scale_weight`, or in newer files
 * `weight_scale`), with their tensors.
 */
function foldScales(tensors: PlacedTensor[]): PlacedTensor[] {
  if (!tensors.some(({ type }) => type === 'F8_E4M3' || type === 'F8_E5M2')) return tensors
  const scales = new Map<string, PlacedTensor>()
  const rest = tensors.filter((tensor) => {
    const [, layer] = /^(.*)\.(?:scale_weight|weight_scale)$/.exec(tensor.name) ?? []
    if (layer !== undefined) scales.set(`${layer}.weight`, tensor)
    // scales of activations, which are not rounded to float8 here; and the marker tensors of such files
    return layer === undefined && !/(^|\.)(scale_input|input_scale|scaled_fp8|comfy_quant)$/.test(tensor.name)
  })
  return rest.map((tensor) => {
    const scale = scales.get(tensor.name)
    if (!scale) return tensor
    const [piece] = tensor.pieces
    if (scale.type !== 'F32' || scale.shape.some((dimension) => dimension !== 1)) {
      throw new FluxError(
        'FLUX_UNSUPPORTED',
        `tensor ${scale.name} is no single F32; only one scale for a whole tensor is read. Use another version`,
      )
    }
    if (scale.pieces[0]!.file !== piece!.file) {
      throw new FluxError(
        'FLUX_UNSUPPORTED',
        `tensor ${scale.name} is in another file than ${tensor.name}. Use a version in one file`,
      )
    }
    return { ...tensor, pieces: [{ ...piece!, scale: scale.pieces[0]!.offset }] }
  })
}

function collect(found: Named, { aliases, ignored }: NameTable): Map<string, PlacedTensor> {
  const canonical = new Map<string, PlacedTensor>()
  const parts = new Map<string, (PlacedTensor | undefined)[]>()
  const twice = (one: PlacedTensor, other: PlacedTensor): never => {
    const message = `tensors ${one.name} and ${other.name} are the same tensor by two names. Use another conversion of the model`
    throw new FluxError('FLUX_BAD_FILE', message)
  }
  for (const [name, tensor, place] of found) {
    if (ignored.some((pattern) => pattern.test(name))) continue
    const other = canonical.get(name)
    if (other) twice(other, tensor)
    if (!place) {
      canonical.set(name, tensor)
      continue
    }
    const list = parts.get(name) ?? Array.from({ length: place.of }, () => undefined)
    if (list[place.part]) twice(list[place.part]!, tensor)
    list[place.part] = tensor
    parts.set(name, list)
  }
  for (const [name, list] of parts) {
    const present = list.filter((part) => part !== undefined)
    if (present.length < list.length) {
      const has = `only ${present.map((part) => part.name).join(', ')}`
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${list.length} tensors make ${name} together, and the file has ${has}. Use a complete copy of the model`,
      )
    }
    const whole = canonical.get(name)
    if (whole) twice(whole, present[0]!)
    canonical.set(name, joined(present))
  }
  for (const [alias, name] of Object.entries(aliases)) {
    const tensor = canonical.get(alias)
    if (!tensor) continue
    canonical.delete(alias)
    if (!canonical.has(name)) canonical.set(name, tensor)
  }
  return canonical
}
