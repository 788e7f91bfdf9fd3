import { FluxError } from '../../errors.js'
import type { TensorInfo } from '../model-file.js'

/** How files name one network's tensors, and how those names become the canonical ones. */
export interface NameTable {
  /** what may stand before every name; the first under which `marks` are found is taken, and names without it belong to other networks */
  prefixes: readonly string[]
  /** patterns over names without the prefix, and what they become; the first that fits is taken */
  renames: readonly (readonly [from: RegExp, to: string])[]
  /** second names of the same tensor: used only where the tensor itself is not there */
  aliases: Readonly<Record<string, string>>
  /** canonical names of tensors that the network does not use */
  ignored: readonly RegExp[]
  /** canonical names; any of them tells that the network is in the file */
  marks: readonly string[]
}

type Named = (readonly [canonicalName: string, tensor: TensorInfo])[]

/** Whether the file holds the network, whole or in part. */
export function holdsNetwork(tensors: Map<string, TensorInfo>, table: NameTable): boolean {
  return named(tensors, table) !== undefined
}

/**
 * The tensors of one network by canonical names, without the ignored ones; tensors that the network does not know keep their names.
 * `undefined` when the file does not hold the network.
 *
 * @throws {FluxError} FLUX_BAD_FILE when two names mean the same tensor
 */
export function canonicalTensors(tensors: Map<string, TensorInfo>, table: NameTable): Map<string, TensorInfo> | undefined {
  const found = named(tensors, table)
  return found && collect(found, table)
}

function named(tensors: Map<string, TensorInfo>, table: NameTable): Named | undefined {
  for (const prefix of table.prefixes) {
    const under = [...tensors.values()].filter(({ name }) => name.startsWith(prefix))
    const found = under.map((tensor) => [rename(tensor.name.slice(prefix.length), table), tensor] as const)
    if (found.some(([name]) => table.marks.includes(name))) return found
  }
  return undefined
}

function rename(name: string, { renames }: NameTable): string {
  const rule = renames.find(([from]) => from.test(name))
  return rule ? name.replace(rule[0], rule[1]) : name
}

function collect(found: Named, { aliases, ignored }: NameTable): Map<string, TensorInfo> {
  const canonical = new Map<string, TensorInfo>()
  for (const [name, tensor] of found) {
    if (ignored.some((pattern) => pattern.test(name))) continue
    const other = canonical.get(name)
    if (other)
      throw new FluxError(
        'FLUX_BAD_FILE',
        `tensors ${other.name} and ${tensor.name} are the same tensor by two names. Use another conversion of the model`,
      )
    canonical.set(name, tensor)
  }
  for (const [alias, name] of Object.entries(aliases)) {
    const tensor = canonical.get(alias)
    if (!tensor) continue
    canonical.delete(alias)
    if (!canonical.has(name)) canonical.set(name, tensor)
  }
  return canonical
}
