import { FluxError } from '../../errors.js'

/**
 * Converts a latent [c, h, w] to image tokens [h/2 * w/2, 4c]. Each 2 x 2 patch becomes one token, row by row. The
 * token's channel is c * 4 + row parity * 2 + column parity. FLUX.1: 16 channels become 64.
 *
 * @param latent its length determines the number of channels
 * @param height h, even (the image's height / 8)
 * @param width w, even (the image's width / 8)
 * @throws FluxError FLUX_BAD_SHAPE
 * Source: black-forest-labs/flux `src/flux/sampling.py` (`prepare`).
 */
export function packLatents(latent: Float32Array, height: number, width: number): Float32Array {
  const packed = new Float32Array(latent.length)
  forEachPatchValue(latent.length, height, width, (inLatent, inPacked) => {
    packed[inPacked] = latent[inLatent]!
  })
  return packed
}

/** Converts image tokens [h/2 * w/2, 4c] back to a latent [c, h, w], with the same checks as {@link packLatents}. */
export function unpackLatents(packed: Float32Array, height: number, width: number): Float32Array {
  const latent = new Float32Array(packed.length)
  forEachPatchValue(packed.length, height, width, (inLatent, inPacked) => {
    latent[inLatent] = packed[inPacked]!
  })
  return latent
}

/** Position ids of image tokens, [rows * columns, 3]: (0, row, column). Source: as {@link packLatents}. */
export function imageIds(rows: number, columns: number): Float32Array {
  const ids = new Float32Array(rows * columns * 3)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i += 3) {
      ids[i + 1] = row
      ids[i + 2] = column
    }
  }
  return ids
}

/** Position ids of text tokens, [count, 3]: all zero, because text has no position in the image. */
export function textIds(count: number): Float32Array {
  return new Float32Array(count * 3)
}

function forEachPatchValue(
  length: number,
  height: number,
  width: number,
  visit: (inLatent: number, inPacked: number) => void,
): void {
  const sized = [height, width].every((side) => Number.isSafeInteger(side) && side > 0 && side % 2 === 0)
  if (!sized)
    throw new FluxError('FLUX_BAD_SHAPE', `the latent is ${width} wide and ${height} high: give even numbers from 2`)
  const channels = length / (height * width)
  if (!Number.isSafeInteger(channels) || channels < 1) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `${length} values are no whole channels of ${height} x ${width}: give [c, h, w]`,
    )
  }
  const tokenLength = channels * 4
  const columns = width / 2
  for (let c = 0, i = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const token = (y >> 1) * columns + (x >> 1)
        visit(i, token * tokenLength + c * 4 + (y & 1) * 2 + (x & 1))
      }
    }
  }
}
