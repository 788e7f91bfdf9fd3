import { expect, test } from 'vitest'
import type { ImageEvent } from '../../../lib/index.js'
import { ImageProgress } from '../../../lib/cli/image-progress.js'
import { imageSummary } from '../../../lib/cli/image-report.js'
import { progressText } from '../../../lib/cli/write-progress.js'

const step = (step: number, ms: number) =>
  ({ type: 'step', index: 0, step, steps: 4, sigma: 1, sigmaNext: 0, reused: false, ms }) as const

test('the stages of a picture, the share of the weights, the speed and the time left', () => {
  const progress = new ImageProgress(0)
  progress.load(0.375)
  expect(progress.text(1200)).toBe('loading the model, 37 % of the weights loaded  1.2 s')
  progress.update({ type: 'stage', stage: 'text' }, 2000)
  expect(progress.text(2100)).toBe('encoding the text, 37 % of the weights loaded  0.10 s')
  progress.load(1)
  progress.update({ type: 'stage', stage: 'denoise' }, 3000)
  expect(progress.text(3500)).toBe('denoising  0.50 s')
  progress.update(step(1, 800), 4000)
  progress.update(step(2, 1000), 5000)
  // 0.9 s a step, two to go, 0.3 s of the next are over
  expect(progress.text(5300)).toBe(`step 2/4  ${'█'.repeat(12)}${'░'.repeat(12)}  0.90 s/step, 1.5 s left`)
  // a step that takes longer than those before does not count below zero
  expect(progress.text(60_000)).toMatch(/0\.00 s left$/)
  progress.update({ type: 'stage', stage: 'decode' }, 60_000)
  expect(progress.text(61_000)).toBe('decoding the image  1.0 s')
  // the next of several images has a speed of its own
  progress.update({ type: 'stage', stage: 'text' }, 62_000)
  progress.update({ type: 'stage', stage: 'denoise' }, 62_000)
  progress.update({ ...step(1, 500), index: 1 }, 62_500)
  expect(progress.text(62_500)).toMatch(/^step 1\/4 .* 0\.50 s\/step, 1\.5 s left$/)
})

test('a log gets the stages, and a step only when ten seconds have passed', () => {
  const progress = new ImageProgress(0)
  const lines = [
    [{ type: 'stage', stage: 'denoise' }, 0],
    [step(1, 6000), 6000],
    [step(2, 6000), 12_000],
    [step(3, 6000), 18_000],
    [{ type: 'stage', stage: 'decode' }, 24_000],
  ] as const
  const log = lines.map(([event, now]) => (progress.update(event, now), progress.logLine(event, now)))
  const second = expect.stringMatching(/^step 2\/4 .* 6\.0 s\/step, 12\.0 s left$/)
  expect(log).toEqual(['denoising', undefined, second, undefined, 'decoding the image'])
})

test('the last line', () => {
  const timings = { encode: 0, text: 400, load: 200, denoise: 3600, decode: 1100 }
  const image: ImageEvent = {
    type: 'image',
    index: 0,
    image: Buffer.alloc(0),
    format: 'png',
    width: 256,
    height: 192,
    seed: 1,
    parameters: '',
    truncated: [],
    timings,
  }
  const picture = { image, path: 'out.png', steps: 4, timings, ms: 6100 }
  expect(imageSummary(picture, 812e6)).toBe(
    'out.png  256x192  seed 1  4 steps  6.1 s (text 0.40 s, load 0.20 s, 4 x 0.90 s, decode 1.1 s)  peak memory 812 MB',
  )
})

test('writing a model: share, speed and the time left', () => {
  expect(progressText(0, 8e9, 500)).toBe('preparing the weights')
  expect(progressText(2e9, 8e9, 1600)).toBe(`${'█'.repeat(6)}${'░'.repeat(18)}  2.0 GB of 8.0 GB  1.3 GB/s, 4.8 s left`)
})
