import { expect, test } from 'vitest'
import { boxToBytes } from '../../../lib/images/box-to-bytes.js'

test('a rectangle of a tile becomes bytes, rounded and clamped', () => {
  // [3, 2, 3]; the rectangle is the last two columns of the second row
  const planes = Float32Array.from([9, 9, 9, 9, 0.5, 1.2, 9, 9, 9, 9, -0.1, 0.1, 9, 9, 9, 9, NaN, 1 / 255])
  const box = { top: 7, left: 7, height: 1, width: 2, partTop: 1, partLeft: 1, partHeight: 2, partWidth: 3 }
  expect([...boxToBytes(planes, box)]).toEqual([128, 0, 0, 255, 26, 1])
})
