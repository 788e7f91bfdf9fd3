import { expect, test } from 'vitest'
import { cellsOf, spans } from '../../../../lib/networks/rrdb/tiles.js'

test.each([
  [1, 32, 4],
  [40, 32, 4],
  [41, 32, 4],
  [100, 32, 4],
  [1000, 64, 32],
  [129, 1, 32],
])('spans cover a side of %i once, %i at a time, each %i from where a tile ends', (length, core, margin) => {
  const all = spans(length, core, margin)
  expect([all[0]!.begin, all.at(-1)!.end]).toEqual([0, length])
  for (const [i, { first, count, begin, end }] of all.entries()) {
    expect(count).toBe(Math.min(length, core + 2 * margin))
    expect(first).toBeGreaterThanOrEqual(0)
    expect(first + count).toBeLessThanOrEqual(length)
    expect(end).toBeGreaterThan(begin)
    if (i > 0) expect(begin).toBe(all[i - 1]!.end)
    if (begin > 0) expect(begin - first).toBeGreaterThanOrEqual(margin)
    if (end < length) expect(first + count - end).toBeGreaterThanOrEqual(margin)
  }
})

test('squares of pixels become channels, row by row; what is beyond the edge is mirrored', () => {
  const read = (channel: number, y: number, x: number) => 100 * channel + 10 * y + x
  const whole = (count: number) => ({ first: 0, count, begin: 0, end: count })
  const cells = cellsOf(read, { height: 3, width: 4 }, { unshuffle: 2 }, whole(2), whole(2))
  // channel 0: pixels at (even, even), (even, odd), (odd, even), (odd, odd); row 3 is row 1 again
  expect([...cells.subarray(0, 16)]).toEqual([0, 2, 20, 22, 1, 3, 21, 23, 10, 12, 10, 12, 11, 13, 11, 13])
  expect(cells[16]).toBe(100)
  const tile = cellsOf(
    read,
    { height: 9, width: 9 },
    { unshuffle: 1 },
    { ...whole(1), first: 2 },
    { ...whole(2), first: 5 },
  )
  expect([...tile]).toEqual([25, 26, 125, 126, 225, 226])
  expect([...cellsOf(read, { height: 1, width: 1 }, { unshuffle: 4 }, whole(1), whole(1))].slice(0, 16)).toEqual(
    Array(16).fill(0),
  )
})
