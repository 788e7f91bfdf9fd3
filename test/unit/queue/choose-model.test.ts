import { expect, test } from 'vitest'
import { chooseModel, type Head } from '../../../lib/queue/redis/choose-model.js'

const head = (model: string, waited: number, more: Partial<Head> = {}): Head => ({
  ...{ model, waited, isBegun: false, priority: 0, ...more },
})
const choose = (heads: Head[], loaded: string[], lasts = 0, jobs = 0) =>
  chooseModel(heads, loaded, { lasts, jobs })?.model

test('without a job there is nothing to choose', () => {
  expect(choose([], ['a'])).toBeUndefined()
})

test('a model in memory comes first, otherwise the one that has waited longest', () => {
  expect(choose([head('a', 1), head('b', 20_000)], ['a'])).toBe('a')
  expect(choose([head('a', 1), head('b', 20_000), head('c', 10_000)], ['d'])).toBe('b')
  expect(choose([head('a', 1), head('b', 5), head('c', 10_000)], ['a', 'b'])).toBe('b')
})

test('but not for ever: after 8 jobs, or when another has waited 30 s since this model was taken', () => {
  const heads = [head('a', 1), head('b', 31_000)]
  expect(choose(heads, ['a'], 31_000, 3)).toBe('b')
  expect(choose(heads, ['a'], 29_000, 3)).toBe('a')
  expect(choose([head('a', 60_000), head('b', 29_000)], ['a'], 60_000, 3)).toBe('a')
  expect(choose([head('a', 1), head('b', 10)], ['a'], 10, 8)).toBe('b')
  expect(choose([head('a', 1), head('b', 10)], ['a'], 10, 7)).toBe('a')
})

test('priority is above both, and a job whose worker died above that', () => {
  expect(choose([head('a', 60_000), head('b', 1, { priority: 1 })], ['a'])).toBe('b')
  expect(choose([head('a', 60_000, { priority: 100 }), head('b', 1, { isBegun: true, priority: -5 })], ['a'])).toBe('b')
})
