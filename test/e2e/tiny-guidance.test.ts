import { afterAll, beforeAll, expect, test } from 'vitest'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { heldOutPrompts, percent, rate, report, some, trial } from '../support/judge/trial.js'
import { loadTiny } from '../support/tiny.js'

const { single, pair } = heldOutPrompts()
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny()
})
afterAll(() => pipe?.close())

// at 128 x 128 there is no room: nearly all is right without guidance
test('more guidance raises agreement where there is room, at 64 x 64', { timeout: 600_000 }, async () => {
  const [none, more] = [[], []] as [number[], number[]]
  for (const [rates, guidance] of [
    [none, 1],
    [more, 3],
  ] as const) {
    for (const prompts of [single, pair])
      rates.push(rate(await trial(pipe, prompts, { guidance, width: 64, height: 64 })))
  }
  console.log(
    `64 x 64, one thing and two, with guidance 1: ${none.map(percent).join(', ')} right, with guidance 3: ${more.map(percent).join(', ')}`,
  )
  expect(more[0]).toBeGreaterThan(none[0]!)
  expect(more[1]).toBeGreaterThan(none[1]!)
})

test.for([4, 20])('%i steps', { timeout: 600_000 }, async (steps) => {
  const verdicts = await trial(pipe, [...some(single, 20), ...some(pair, 20)], { steps })
  console.log(report(`${steps} steps`, verdicts))
  expect(rate(verdicts)).toBeGreaterThanOrEqual(0.75)
})
