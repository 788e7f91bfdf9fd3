import { afterAll, beforeAll, expect, test } from 'vitest'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { SAMPLERS, type SamplerName } from '../../lib/sampling/samplers.js'
import { collect } from '../support/async.js'
import { heldOutPrompts, percent, rate, some, trial } from '../support/judge/trial.js'
import { loadTiny } from '../support/tiny.js'

const prompts = some(heldOutPrompts().single, 3)
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny()
})
afterAll(() => pipe?.close())

test.for(Object.keys(SAMPLERS) as SamplerName[])(
  '%s draws what the prompt says',
  { timeout: 300_000 },
  async (sampler) => {
    const agreed = rate(await trial(pipe, prompts, { sampler }))
    console.log(`${sampler}: ${percent(agreed)}`)
    expect(agreed).toBeGreaterThanOrEqual(2 / 3)
  },
)

test('a sampler that adds noise gives the same image for the same seed, and steps as asked for', async () => {
  const options = { prompt: 'a red circle', seed: 3, steps: 4, format: 'raw', sampler: 'euler_ancestral' } as const
  const [once, again, other] = [
    await pipe.generate(options),
    await pipe.generate(options),
    await pipe.generate({ ...options, seed: 4 }),
  ]
  expect(Buffer.compare(once, again)).toBe(0)
  expect(Buffer.compare(once, other)).not.toBe(0)
  const events = await collect(pipe.stream({ ...options, sampler: 'uni_pc' }))
  expect(events.filter(({ type }) => type === 'step')).toHaveLength(4)
})
