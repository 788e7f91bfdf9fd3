import { expect, test } from 'vitest'
import { denoise } from '../../../lib/sampling/denoise.js'
import { SAMPLER_TRAITS, SAMPLERS, type SamplerName } from '../../../lib/sampling/samplers.js'
import { schedule } from '../../../lib/sampling/schedule.js'

const image = Float32Array.of(0.5, -1, 2, 0.25)
const noise = Float32Array.of(-0.3, 1.2, 0.4, -2)
/** the first half stays, the second is drawn */
const mask = Float32Array.of(0, 0, 1, 1)
const target = 3
const sigmas = schedule({ steps: 6, sequenceLength: 256 })

/** a model that wants `target` everywhere, and tells what it was given */
function model() {
  const seen: { x: Float32Array; sigma: number }[] = []
  const predict = async (x: Float32Array, sigma: number) => {
    seen.push({ x: Float32Array.from(x), sigma })
    return x.map((value) => (value - target) / sigma)
  }
  return { seen, predict }
}

const close = (actual: number, expected: number, within = 2e-3) =>
  expect(Math.abs(actual - expected)).toBeLessThan(within)

test.each(
  (Object.keys(SAMPLERS) as SamplerName[]).flatMap((sampler) =>
    (SAMPLER_TRAITS[sampler].continuesFromState ? (['blend', 'denoised'] as const) : (['denoised'] as const)).map(
      (rule) => [sampler, rule] as const,
    ),
  ),
)('%s, rule %s: what stays has the level of its noise in every evaluation, the rest is drawn', async (name, rule) => {
  const { seen, predict } = model()
  const keep = { image, noise, mask, rule }
  const run = { predict, latents: noise, sigmas, sampler: SAMPLERS[name], noise: () => new Float32Array(4), keep }
  let last: Float32Array = noise
  for await (const { latents } of denoise(run)) last = latents
  // uni_pc ends at noise level 0.001
  for (let i = 0; i < 2; i++) close(last[i]!, image[i]!, 2e-3 + 0.001 * Math.abs(noise[i]! - image[i]!))
  for (let i = 2; i < 4; i++) close(last[i]!, target, 2e-3 + 0.001 * Math.abs(noise[i]! - target))
  // 'blend' acts after each step, so a second evaluation within a step does not see it
  if (rule === 'blend' && SAMPLER_TRAITS[name].evaluations > 1) return
  for (const { x, sigma } of seen) for (let i = 0; i < 2; i++) close(x[i]!, (1 - sigma) * image[i]! + sigma * noise[i]!)
})
