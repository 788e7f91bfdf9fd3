import { expect, test } from 'vitest'
import { latentPreview } from '../../../lib/families/latent-preview.js'
import { processorTime } from '../../support/clock.js'

// ComfyUI's comfy/latent_formats.py, class Flux: per colour, over the 16 channels
const RED = [
  -0.0346, 0.0034, 0.0275, -0.0174, 0.0859, 0.0004, 0.0405, -0.0236, -0.0245, 0.1008, -0.0515, 0.0428, 0.0817, -0.1264,
  -0.028, -0.1262,
]
const GREEN = [
  0.0244, 0.021, -0.0668, 0.016, 0.0721, 0.0383, 0.0861, -0.0185, 0.025, 0.0755, 0.0201, -0.0012, 0.0765, -0.0522,
  -0.0881, -0.0982,
]
const BLUE = [
  0.0681, 0.0687, -0.0433, 0.0617, 0.0329, 0.0115, 0.0915, -0.0259, 0.118, -0.0421, 0.0011, -0.0036, 0.0749, -0.1103,
  -0.0499, -0.0778,
]
const BIAS = [-0.0329, -0.0718, -0.0851]

const wave = (h: number, w: number, amplitude: number) =>
  Float32Array.from({ length: 16 * h * w }, (_, i) => amplitude * Math.sin(i * 1.7 + 0.3))

test('values equal the formula', () => {
  const [h, w] = [6, 10]
  const latent = wave(h, w, 2)
  const { data, width, height } = latentPreview(latent, h, w)
  expect([width, height, data.length]).toEqual([10, 6, 180])
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const pixel = [...Array(16).keys()].map((c) => latent[(c * h + y) * w + x]!)
      const expected = [RED, GREEN, BLUE].map((factors, k) => {
        const colour = factors.reduce((sum, factor, c) => sum + factor * pixel[c]!, BIAS[k]!)
        return Math.floor(Math.min(Math.max((colour + 1) * 127.5, 0), 255))
      })
      expect([...data.subarray((y * w + x) * 3, (y * w + x) * 3 + 3)]).toEqual(expected)
    }
  }
})

test('colours beyond the range are clamped', () => {
  // channel 6 has three positive factors, channel 15 three negative ones
  const only = (channel: number, value: number) => new Float32Array(16 * 4).fill(value, channel * 4, channel * 4 + 4)
  expect([...latentPreview(only(6, 1000), 2, 2).data]).toEqual(Array(12).fill(255))
  expect([...latentPreview(only(15, 1000), 2, 2).data]).toEqual(Array(12).fill(0))
})

test('a constant latent gives a constant picture', () => {
  const { data } = latentPreview(new Float32Array(16 * 4 * 4).fill(0.5), 4, 4)
  // zero latents would be the bias alone: 123, 118, 116
  expect([...latentPreview(new Float32Array(16), 1, 1).data]).toEqual([123, 118, 116])
  for (let i = 3; i < data.length; i++) expect(data[i]).toBe(data[i % 3])
})

test('enlargement repeats every pixel', () => {
  const latent = wave(3, 5, 3)
  const small = latentPreview(latent, 3, 5)
  const large = latentPreview(latent, 3, 5, 4)
  expect([large.width, large.height]).toEqual([20, 12])
  for (let y = 0; y < 12; y++) {
    for (let x = 0; x < 20; x++) {
      const from = (Math.floor(y / 4) * 5 + Math.floor(x / 4)) * 3
      expect(
        large.data.subarray((y * 20 + x) * 3, (y * 20 + x) * 3 + 3).equals(small.data.subarray(from, from + 3)),
      ).toBe(true)
    }
  }
})

test('a preview of 1024 x 1024 takes milliseconds', () => {
  const latent = wave(128, 128, 1)
  latentPreview(latent, 128, 128)
  const elapsed = processorTime(() => latentPreview(latent, 128, 128))
  console.log(`preview of 128 x 128 latents: ${elapsed.toFixed(1)} ms`)
  expect(elapsed).toBeLessThan(100)
})

test('wrong shapes and enlargements are refused', () => {
  expect(() => latentPreview(new Float32Array(64 * 4), 4, 2)).toThrow(
    expect.objectContaining({ code: 'FLUX_BAD_SHAPE' }),
  )
  expect(() => latentPreview(new Float32Array(16), 1, 1, 0)).toThrow(/enlargement is 0/)
  expect(() => latentPreview(new Float32Array(16), 1, 1, 1.5)).toThrow(
    expect.objectContaining({ code: 'FLUX_BAD_OPTION' }),
  )
})

test('another autoencoder brings its own colours', () => {
  const factors = Array.from({ length: 16 }, (_, c) => (c === 3 ? ([0.5, 0, -0.25] as const) : ([0, 0, 0] as const)))
  const latent = new Float32Array(16)
  latent[3] = 1
  // bytes are 127.5 (x + 1), cut off
  expect([...latentPreview(latent, 1, 1, 1, { factors, bias: [0, 0.2, 0] }).data]).toEqual([191, 153, 95])
})
