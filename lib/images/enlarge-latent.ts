import { halfEven } from './resize-planes.js'

/**
 * Enlarges a latent bilinearly (half-pixel centres, the edge repeated), each channel by itself. Of another aspect, the
 * middle is taken.
 *
 * @param latent [channels, rows, columns]
 * @returns [channels, targetRows, targetColumns]
 *
 * Source: Comfy-Org/ComfyUI `comfy/utils.py` (`common_upscale`, 'bilinear' with crop 'center'); pytorch/pytorch
 * `torch.nn.functional.interpolate`.
 */
export function enlargeLatent(
  latent: Float32Array,
  [rows, columns]: readonly [number, number],
  [targetRows, targetColumns]: readonly [number, number],
): Float32Array {
  const [aspect, target] = [columns / rows, targetColumns / targetRows]
  const left = aspect > target ? halfEven((columns - columns * (target / aspect)) / 2) : 0
  const top = aspect < target ? halfEven((rows - rows * (aspect / target)) / 2) : 0
  const vertical = neighbours(top, rows - 2 * top, targetRows)
  const horizontal = neighbours(left, columns - 2 * left, targetColumns)
  const channels = latent.length / (rows * columns)
  const enlarged = new Float32Array(channels * targetRows * targetColumns)
  for (let c = 0, out = 0; c < channels; c++) {
    for (const y of vertical) {
      const [above, below] = [(c * rows + y.first) * columns, (c * rows + y.second) * columns]
      for (const x of horizontal) {
        const upper = mix(latent[above + x.first]!, latent[above + x.second]!, x.amount)
        const lower = mix(latent[below + x.first]!, latent[below + x.second]!, x.amount)
        enlarged[out++] = mix(upper, lower, y.amount)
      }
    }
  }
  return enlarged
}

const mix = (a: number, b: number, amount: number): number => a + amount * (b - a)

/** For each target position along an axis: the two positions around it, and how far it is from the first. */
function neighbours(
  begin: number,
  length: number,
  target: number,
): { first: number; second: number; amount: number }[] {
  return Array.from({ length: target }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * length) / target - 0.5)
    const first = Math.min(Math.trunc(at), length - 1)
    return { first: begin + first, second: begin + Math.min(first + 1, length - 1), amount: at - first }
  })
}
