import { describe, expect, test } from 'vitest'
import { FluxError } from '../../../lib/errors.js'
import { decodeTiles, decodeWithin, encodeWithin, type Decode, type Encode } from '../../../lib/pipeline/tiles.js'

/** A decoder that looks at one latent only: 8 x 8 pixels, each channel with a pattern inside. */
const pointwise: Decode = async (latents, rows, columns) => {
  const image = new Float32Array(3 * 64 * rows * columns)
  for (let c = 0, i = 0; c < 3; c++) {
    for (let y = 0; y < 8 * rows; y++) {
      for (let x = 0; x < 8 * columns; x++, i++)
        image[i] = latents[(c * rows + (y >> 3)) * columns + (x >> 3)]! + 0.1 * (y % 8) + 0.01 * (x % 8)
    }
  }
  return image
}

const noise = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i * i * 0.37))

describe('decoding in tiles', () => {
  test.each([
    [40, 40, 32],
    [33, 100, 32],
    [100, 33, 48],
    [7, 65, 32],
    [130, 130, 64],
  ])('%i x %i latents in tiles of %i: as the whole', async (rows, columns, side) => {
    const latents = noise(3 * rows * columns)
    const tiles: [number, number][] = []
    const tiled = await decodeTiles(
      (part, height, width) => (tiles.push([height, width]), pointwise(part, height, width)),
      latents,
      rows,
      columns,
      side,
      8,
    )
    const whole = await pointwise(latents, rows, columns)
    expect(tiles.length).toBeGreaterThan(1)
    for (const [height, width] of tiles)
      expect([height, width]).toEqual([Math.min(rows, side), Math.min(columns, side)])
    expect(tiled.length).toBe(whole.length)
    expect(tiled.reduce((most, value, i) => Math.max(most, Math.abs(value - whole[i]!)), 0)).toBeLessThan(1e-5)
  })

  test('tiles that disagree fade into each other: no step is larger than the fade allows', async () => {
    let tile = 0
    const flat: Decode = async (_, rows, columns) => new Float32Array(3 * 64 * rows * columns).fill(tile++)
    const image = await decodeTiles(flat, noise(3 * 32 * 80), 32, 80, 32, 8)
    // neighbours differ by 1 and fade over at least 8 latents of 8 pixels
    for (let x = 1; x < 640; x++) expect(Math.abs(image[x]! - image[x - 1]!), `column ${x}`).toBeLessThan(1.5 / 64)
    expect(image[0]).toBe(0)
    expect(image[639]).toBe(tile - 1)
  })

  const fits =
    (cells: number): Decode =>
    async (latents, rows, columns) => {
      if (rows * columns > cells) throw new FluxError('FLUX_OUT_OF_MEMORY', 'too large')
      return pointwise(latents, rows, columns)
    }

  test.each([
    [130 * 130, undefined],
    [96 * 96, 768],
    [64 * 64, 512],
    [64 * 64 - 1, 384],
    [32 * 32, 256],
  ])('with memory for %i latents', async (cells, tile) => {
    const latents = noise(3 * 130 * 130)
    const result = await decodeWithin(fits(cells), latents, 130, 130, 8)
    expect(result.tile).toBe(tile)
    expect(result.image.length).toBe(3 * 64 * 130 * 130)
  })

  test('without memory for the smallest tile, and other errors at once', async () => {
    await expect(decodeWithin(fits(1000), noise(3 * 64 * 64), 64, 64, 8)).rejects.toMatchObject({
      code: 'FLUX_OUT_OF_MEMORY',
    })
    let calls = 0
    const broken: Decode = async () => {
      calls++
      throw new FluxError('FLUX_DEVICE', 'gone')
    }
    await expect(decodeWithin(broken, noise(3 * 64 * 64), 64, 64, 8)).rejects.toMatchObject({ code: 'FLUX_DEVICE' })
    expect(calls).toBe(1)
  })
})

test.each([
  [40, 40, 32 * 32],
  [33, 100, 64 * 64],
  [7, 65, 7 * 32],
])('encoding %i x %i latents in tiles: as the whole', async (rows, columns, cells) => {
  // an encoder that looks at one block of 8 x 8 pixels only: channel c is the sum of the block's plane c % 3, times c + 1
  const encode: Encode = async (image, height, width) => {
    if (height * width > 64 * cells) throw new FluxError('FLUX_OUT_OF_MEMORY', 'too large')
    const [down, across] = [height / 8, width / 8]
    const latents = new Float32Array(4 * down * across)
    for (let c = 0; c < 4; c++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          latents[(c * down + (y >> 3)) * across + (x >> 3)]! += (c + 1) * image[((c % 3) * height + y) * width + x]!
    return latents
  }
  const image = noise(3 * 64 * rows * columns)
  const tiled = await encodeWithin(encode, image, 8 * rows, 8 * columns, { reduction: 8, channels: 4 })
  cells = Infinity
  const whole = await encode(image, 8 * rows, 8 * columns)
  expect(tiled.length).toBe(whole.length)
  expect(tiled.reduce((most, value, i) => Math.max(most, Math.abs(value - whole[i]!)), 0)).toBeLessThan(1e-3)
})
