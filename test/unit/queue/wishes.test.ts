import { expect, test } from 'vitest'
import { granted } from '../../../lib/queue/wishes.js'

const dev = { width: 1024, height: 1024, steps: 28, guidance: 3.5 }
const schnell = { ...dev, steps: 4, guidance: null }
const asked = { prompt: 'a fox' }

test('steps are for models with many of them', () => {
  expect(granted(asked, { steps: 20 }, dev)).toEqual({ ...asked, steps: 20 })
  expect(granted(asked, { steps: 20 }, schnell)).toEqual(asked)
  expect(granted({ ...asked, steps: 6 }, { steps: 20 }, schnell)).toEqual({ ...asked, steps: 6 })
  expect(granted({ ...asked, steps: 6 }, { steps: 20 }, dev)).toEqual({ ...asked, steps: 6 })
})

test('guidance is for models with guidance', () => {
  expect(granted(asked, { guidance: 2 }, dev)).toEqual({ ...asked, guidance: 2 })
  expect(granted(asked, { guidance: 2 }, schnell)).toEqual(asked)
})

test('a negative prompt needs true CFG', () => {
  expect(granted(asked, { negativePrompt: 'blue' }, dev)).toEqual(asked)
  for (const trueCfg of [2, { scale: 2 }])
    expect(granted({ ...asked, trueCfg }, { negativePrompt: 'blue' }, dev)).toEqual({
      ...asked,
      trueCfg,
      negativePrompt: 'blue',
    })
})

test('quality means more or fewer steps, but never other ones for a model with few', () => {
  const steps = (['low', 'medium', 'high', 'xhigh', 'max'] as const).map(
    (quality) => granted(asked, { quality }, dev).steps!,
  )
  expect(steps).toEqual(steps.toSorted((a, b) => a - b))
  expect(new Set(steps).size).toBe(5)
  expect(steps[2]).toBe(28)
  expect(granted(asked, { quality: 'max' }, schnell)).toEqual(asked)
})
