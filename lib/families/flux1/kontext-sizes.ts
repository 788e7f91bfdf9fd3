import { badOption } from '../../options/checks.js'

/**
 * Sizes (width, height) that Kontext was trained at, for its reference image. Source: black-forest-labs/flux
 * `src/flux/util.py` (`PREFERED_KONTEXT_RESOLUTIONS`), huggingface/diffusers `pipeline_flux_kontext.py`.
 */
export const KONTEXT_SIZES = [
  [672, 1568],
  [688, 1504],
  [720, 1456],
  [752, 1392],
  [800, 1328],
  [832, 1248],
  [880, 1184],
  [944, 1104],
  [1024, 1024],
  [1104, 944],
  [1184, 880],
  [1248, 832],
  [1328, 800],
  [1392, 752],
  [1456, 720],
  [1504, 688],
  [1568, 672],
] as const

/**
 * Returns the size for a reference image: the one whose width / height is closest. The official code and diffusers
 * stretch the image to it; ComfyUI cuts off what is left over (`resizeImage` with 'stretch' or 'cover').
 *
 * @throws FluxError FLUX_BAD_OPTION for a side that is not above 0
 */
export function kontextSize(width: number, height: number): { width: number; height: number } {
  for (const [name, side] of Object.entries({ width, height })) {
    if (!Number.isFinite(side) || side <= 0) throw badOption(name, side, 'a number above 0')
  }
  const difference = ([w, h]: (typeof KONTEXT_SIZES)[number]) => Math.abs(width / height - w / h)
  const [w, h] = KONTEXT_SIZES.reduce((best, size) => (difference(size) < difference(best) ? size : best))
  return { width: w, height: h }
}
