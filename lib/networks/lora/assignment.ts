import { FluxError } from '../../errors.js'
import { badOption, requireOptions } from '../../options/checks.js'
import type { NativeAdapter, NativeFactor, NativeTensor } from '../../native/addon.js'
import type { AdaptableNetwork } from './layer-names.js'
import { withoutArticle } from '../registry.js'
import { loraOf, openLoraFile, sizeOf, type Factor, type Lora } from './lora-file.js'
import type { TensorInfo } from '../../formats/model-file.js'
import { placed } from '../tensor-slices.js'
import { TENSOR_TYPES } from '../../formats/tensor-types.js'

/** A LoRA and its strength. */
export interface LoraOptions {
  /** `.safetensors` */
  path: string
  /** -100 to 100, multiplied by the file's own alpha / rank; 0 has no effect. @default 1 */
  scale?: number
}

const MAX_SCALE = 100
const MAX_LORAS = 64

/** @throws {FluxError} FLUX_BAD_OPTION */
export function checkLoras(loras: readonly LoraOptions[]): void {
  if (!Array.isArray(loras) || loras.length > MAX_LORAS)
    throw badOption('loras', loras, `an array of at most ${MAX_LORAS}, each { path, scale? }`)
  for (const [i, lora] of (loras as LoraOptions[]).entries()) {
    requireOptions(`loras[${i}]`, lora, ['path', 'scale'])
    const { path, scale = 1 } = lora
    if (typeof path !== 'string' || path === '') throw badOption(`loras[${i}].path`, path, 'the path of its file')
    const within = typeof scale === 'number' && Math.abs(scale) <= MAX_SCALE
    if (!within) throw badOption(`loras[${i}].scale`, scale, `a number from ${-MAX_SCALE} to ${MAX_SCALE}`)
  }
}

/** @param label the network or model that the LoRA does not match, with an article */
export function nothingBelongs({ path, unmatched }: Lora, label: string): FluxError {
  return new FluxError(
    'FLUX_UNSUPPORTED',
    `${path}: none of its ${unmatched.length} tensors belongs to a layer of this ${withoutArticle(label)} (${unmatched.slice(0, 3).join(', ')}). Give a LoRA that was made for it`,
  )
}

/** The names in a LoRA's file that are unmatched in all networks that it was read for. */
export function unmatchedByAll([first, ...others]: readonly Lora[]): string[] {
  return first?.unmatched.filter((name) => others.every(({ unmatched }) => unmatched.includes(name))) ?? []
}

/** The networks of a model that each LoRA changes. */
export interface LoraPlan {
  /** by the name of the network */
  assigned: Record<string, LoraOptions[]>
  /** the unmatched names of each LoRA */
  unmatched: string[][]
  /** path of a LoRA that reads a control image (Canny, Depth), more channels of each token than the model has */
  widening?: string
}

/**
 * @param networks the networks of the model, by name; messages mention the first one
 * @throws {FluxError} as {@link openLora}; FLUX_UNSUPPORTED for a LoRA that matches nothing in the model
 */
export async function planLoras(
  loras: readonly LoraOptions[],
  networks: Record<string, AdaptableNetwork>,
): Promise<LoraPlan> {
  const plan: LoraPlan = {
    assigned: Object.fromEntries(Object.keys(networks).map((name) => [name, []])),
    unmatched: [],
  }
  for (const lora of loras) {
    const file = await openLoraFile(lora.path)
    const found: { name: string; part: Lora }[] = []
    for (const [name, network] of Object.entries(networks)) found.push({ name, part: await loraOf(file, network) })
    if (!found.some(({ part }) => part.layers.length > 0)) throw nothingBelongs(found[0]!.part, 'a model')
    for (const { name, part } of found) {
      if (part.channels !== undefined && lora.scale !== 0) plan.widening = lora.path
      if (part.layers.length > 0) plan.assigned[name]!.push(lora)
    }
    plan.unmatched.push(unmatchedByAll(found.map(({ part }) => part)))
  }
  return plan
}

/** The tables for the native side: all LoRAs' files, tensors and adapters, each multiplied by its own strength. */
export function loraTables(
  loras: readonly { lora: Lora; scale: number }[],
): [files: string[], tensors: NativeTensor[], adapters: NativeAdapter[]] {
  const [tensors, adapters]: [NativeTensor[], NativeAdapter[]] = [[], []]
  const add = (tensor: TensorInfo, file: number): string => {
    const { type, shape, pieces } = placed({ ...tensor, file })
    const name = `${tensors.length}`
    tensors.push({ name, type: TENSOR_TYPES[type].id, shape: shape.toReversed(), pieces })
    return name
  }
  const factor = (matrix: Factor, file: number): NativeFactor => {
    const { down, up } = matrix
    return { ...sizeOf(matrix), down: add(down, file), ...(up ? { up: add(up, file), rank: down.shape[0]! } : {}) }
  }
  for (const [file, { lora, scale }] of loras.entries()) {
    for (const { weight, firstRow, kind, left, right, scale: own, halvesSwapped = false } of lora.layers) {
      const outer = factor(left, file)
      const inner = right && factor(right, file)
      const rows = inner && kind === 'kronecker' ? outer.out * inner.out : outer.out
      adapters.push({
        weight,
        firstRow,
        rows,
        kind,
        left: outer,
        ...(inner ? { right: inner } : {}),
        scale: own * scale,
        halvesSwapped,
      })
    }
  }
  return [loras.map(({ lora }) => lora.path), tensors, adapters]
}
