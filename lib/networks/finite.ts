import { FluxError } from '../errors.js'
import type { LoraOptions } from './lora/assignment.js'

/**
 * Rejects a network's output if it is not finite. The cause is damaged weights, a LoRA whose training diverged, or an
 * overflow. The result would be a black image.
 *
 * @param what the name of the output, such as `the output of the decoder`
 * @param path the network's file
 * @throws {FluxError} FLUX_BAD_FILE
 */
export function requireFinite(
  values: Float32Array,
  what: string,
  path: string,
  loras: readonly LoraOptions[] = [],
): void {
  for (let i = 0; i < values.length; i++)
    if (!Number.isFinite(values[i])) throw notFinite(values[i]!, what, path, loras)
}

function notFinite(value: number, what: string, path: string, loras: readonly LoraOptions[]): FluxError {
  const acting = loras.filter(({ scale }) => scale !== 0).map(({ path }) => path)
  const remedy =
    acting.length > 0
      ? `LoRAs in use: ${acting.join(', ')}. Leave them out or lower their scale; if it stays, fetch the network's file again`
      : "fetch the file again, or load with backend 'cpu' and precision 'f32' where it is sound"
  return new FluxError('FLUX_BAD_FILE', `${path}: ${what} has ${value}; expected finite numbers. ${remedy}`)
}
