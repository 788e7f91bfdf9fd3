// The part of vitest that our tests use, where vitest itself does not run. `expect` is vitest's own.
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

// vitest's own dependencies, from where vitest finds them
const require = createRequire(createRequire(import.meta.url).resolve('vitest/package.json'))
const load = (name) => import(pathToFileURL(require.resolve(name)).href)
const chai = await load('chai')
const parts = await load('@vitest/expect')
const { fn, restoreAllMocks, spyOn } = await load('@vitest/spy')

for (const plugin of [parts.JestExtend, parts.JestChaiExpect, parts.JestAsymmetricMatchers]) chai.use(plugin)
export const expect = Object.assign((value, message) => chai.expect(value, message), chai.expect)
Object.defineProperty(globalThis, parts.GLOBAL_EXPECT, { value: expect })
parts.setState({ assertionCalls: 0, isExpectingAssertions: false, currentTestName: '', testPath: '' }, expect)
expect.extend(expect, parts.customMatchers)
expect.poll = (value, { timeout = 1000, interval = 50 } = {}) =>
  new Proxy(
    {},
    {
      get:
        (_, matcher) =>
        async (...expected) => {
          for (const end = Date.now() + timeout; ; await sleep(interval)) {
            try {
              return expect(await value())[matcher](...expected)
            } catch (error) {
              if (Date.now() > end) throw error
            }
          }
        },
    },
  )

export const vi = { fn, restoreAllMocks, spyOn, setConfig() {}, resetConfig() {} }

const suite = (name, parent) => ({
  name,
  parent,
  items: [],
  beforeAll: [],
  afterAll: [],
  beforeEach: [],
  afterEach: [],
})
const top = suite('')
let current = top

const adder = (add) => {
  const make = (name, first, second) => add(name, typeof first === 'function' ? first : second, false)
  make.skip = (name) => add(name, undefined, true)
  make.concurrent = make.sequential = make
  make.skipIf = (condition) => (condition ? adder((name, work) => add(name, work, true)) : make)
  make.runIf = (condition) => make.skipIf(!condition)
  const each = (call) => (rows) => (name, first, second) => {
    const work = typeof first === 'function' ? first : second
    rows.forEach((row, i) => add(titled(name, row, i), (context) => call(work, row, context), false))
  }
  make.each = each((work, row) => work(...(Array.isArray(row) ? row : [row])))
  make.for = each((work, row, context) => work(row, context))
  return make
}

function titled(name, row, i) {
  const values = [row].flat()
  const shown = (value) => (typeof value === 'string' ? value : JSON.stringify(value)?.slice(0, 60))
  return name
    .replace(/%[sdifjo#]/g, (mark) => (mark === '%#' ? i : shown(values.shift())))
    .replace(/\$(\w+)/g, (_, key) => shown(row?.[key]))
}

export const test = adder((name, work, skipped) => current.items.push({ name, work, skipped }))
export const it = test
export const describe = adder((name, work, skipped) => {
  if (skipped) return void current.items.push({ name, skipped })
  const parent = current
  current = suite(name, parent)
  parent.items.push(current)
  work()
  current = parent
})
export const beforeAll = (work) => current.beforeAll.push(work)
export const afterAll = (work) => current.afterAll.push(work)
export const beforeEach = (work) => current.beforeEach.push(work)
export const afterEach = (work) => current.afterEach.push(work)

const PATIENCE = 300_000
class Skip extends Error {}
const counts = { passed: 0, failed: 0, skipped: 0 }

function fail(name, error) {
  counts.failed++
  console.log(`FAILED ${name}\n${String(error?.stack ?? error).slice(0, 1000)}`)
}

async function inTime(work) {
  const timer = new AbortController()
  const late = sleep(PATIENCE, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`not done in ${PATIENCE / 1000} s`)
  })
  late.catch(() => {})
  try {
    return await Promise.race([work(), late])
  } finally {
    timer.abort()
  }
}

async function runTest({ name, work }, suites, path) {
  const finished = []
  const skip = (condition = true) => {
    if (condition) throw new Skip()
  }
  const signal = new AbortController().signal
  try {
    for (const { beforeEach } of suites) for (const hook of beforeEach) await hook()
    await inTime(() => work({ skip, expect, signal, task: { name }, onTestFinished: (hook) => finished.push(hook) }))
    counts.passed++
  } catch (error) {
    if (error instanceof Skip) counts.skipped++
    else fail(path, error)
  }
  for (const hook of finished.reverse()) await hook()
  for (const { afterEach } of suites.toReversed()) for (const hook of afterEach) await hook()
}

const contains = (item, path, only) =>
  item.items ? item.items.some((inner) => contains(inner, `${path} > ${inner.name}`, only)) : path.includes(only)

async function runSuite(suite, suites, path, only) {
  try {
    for (const hook of suite.beforeAll) {
      const after = await inTime(hook)
      if (typeof after === 'function') suite.afterAll.push(after)
    }
    for (const item of suite.items) {
      const name = `${path} > ${item.name}`
      if (item.skipped || !contains(item, name, only)) counts.skipped++
      else if (item.items) await runSuite(item, [...suites, item], name, only)
      else await runTest(item, suites, name)
    }
  } catch (error) {
    fail(`${path} (before its tests)`, error)
  }
  for (const hook of suite.afterAll.reverse()) await hook()
}

/** @param only the tests whose path of names contains this */
export async function runAll(only) {
  await runSuite(top, [top], '', only)
  return counts
}
