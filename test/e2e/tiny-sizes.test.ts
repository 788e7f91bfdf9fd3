import { afterAll, beforeAll, expect, test } from 'vitest'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { heldOutPrompts, rate, report, some, trial } from '../support/judge/trial.js'
import { loadTiny } from '../support/tiny.js'

const { single, pair } = heldOutPrompts()
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny()
})
afterAll(() => pipe?.close())

const SIZES: [string, Partial<GenerateOptions>][] = [
  ['112 x 176', { width: 112, height: 176 }],
  ['208 x 144', { width: 208, height: 144 }],
  ['64 x 64', { width: 64, height: 64 }],
  ['256 x 256', { width: 256, height: 256 }],
]
test.for(SIZES)('other sizes: %s', { timeout: 600_000 }, async ([name, options]) => {
  const verdicts = await trial(pipe, [...some(single, 20), ...some(pair, 20)], options)
  console.log(report(name, verdicts))
  expect(rate(verdicts)).toBeGreaterThanOrEqual(0.75)
})
