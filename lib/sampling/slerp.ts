import { FluxError } from '../errors.js'
import { badOption } from '../options/checks.js'
import { combine } from './samplers/combine.js'

/**
 * Spherical linear interpolation between two noises, which stays noise of the same strength: with the angle w between
 * them, (sin((1 - amount) w) * from + sin(amount w) * to) / sin(w). The angle is that of the whole arrays; A1111 takes
 * one for each column of each channel. Shoemake: Animating Rotation with Quaternion Curves, 1985.
 *
 * @param amount 0 (`from`) to 1 (`to`)
 * @throws FluxError FLUX_BAD_OPTION for an amount out of range; FLUX_BAD_SHAPE for arrays of different lengths
 */
export function slerp(from: Float32Array, to: Float32Array, amount: number): Float32Array {
  if (typeof amount !== 'number' || !(amount >= 0 && amount <= 1))
    throw badOption('amount', amount, 'a number from 0 to 1')
  if (from.length !== to.length) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `slerp received ${from.length} and ${to.length} values: give arrays of one length`,
    )
  }
  let [product, fromSquare, toSquare] = [0, 0, 0]
  for (let i = 0; i < from.length; i++) {
    product += from[i]! * to[i]!
    fromSquare += from[i]! ** 2
    toSquare += to[i]! ** 2
  }
  const cosine = product / Math.sqrt(fromSquare * toSquare)
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)))
  // along a straight line where the angle is 0, has no value (an array of zeros), or leaves the direction open (180 degrees)
  if (!(Math.sin(angle) > 1e-6)) return combine([1 - amount, from], [amount, to])
  return combine(
    [Math.sin((1 - amount) * angle) / Math.sin(angle), from],
    [Math.sin(amount * angle) / Math.sin(angle), to],
  )
}
