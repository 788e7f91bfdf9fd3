import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PNG } from 'pngjs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { collect } from '../support/async.js'
import { agrees, type Wanted } from '../support/judge/agreement.js'
import { judge } from '../support/judge/judge.js'
import { heldOutPrompts, rate, report, some, trial, type Verdict } from '../support/judge/trial.js'
import { loadTiny } from '../support/tiny.js'

const { single, pair } = heldOutPrompts()
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny()
})
afterAll(() => pipe?.close())

describe('the tiny model draws what it was never shown', () => {
  let ofSingle: Verdict[]
  let ofPair: Verdict[]
  beforeAll(async () => {
    ofSingle = await trial(pipe, single)
    ofPair = await trial(pipe, pair)
    console.log([report('one thing', ofSingle), report('two things', ofPair)].join('\n\n'))
  }, 900_000)

  test('one thing: its held-out shape and colour', () => {
    expect(ofSingle.length).toBeGreaterThanOrEqual(100)
    expect(rate(ofSingle)).toBeGreaterThanOrEqual(0.9)
  })

  test('two things in a held-out relation: number, colours, shapes and relation', () => {
    expect(ofPair.length).toBeGreaterThanOrEqual(100)
    expect(rate(ofPair)).toBeGreaterThanOrEqual(0.75)
  })
})

test('the step cache makes nearly the same picture with fewer evaluations, and says so', {
  timeout: 120_000,
}, async () => {
  const options = { prompt: PROMPT, seed: 1, steps: 28, format: 'raw' } as const
  const whole = await pipe.generate(options)
  const events = await collect(pipe.stream({ ...options, stepCache: 0.2 }))
  const image = events.at(-1)!
  if (image.type !== 'image') throw new Error('the last event is the picture')
  const evaluated = events.filter((event) => event.type === 'step' && !event.reused).length
  const apart = distance(image.image, whole)
  console.log(`step cache 0.2: ${evaluated} of 28 steps evaluated, ${apart.toFixed(2)} bytes from the whole picture`)
  expect(evaluated).toBeLessThan(20)
  expect(apart, 'root of the mean square, in bytes').toBeLessThan(10)
  expect(image.parameters).toContain('Step cache: 0.2')
})

/** of the README's main command */
const PROMPT = 'a small red circle left of a large blue square on a white background'

test('the main command of the README draws what it says', async () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  const [, prompt] = /npx ggflux generate "([^"]+)"\n/.exec(readme)!
  expect(prompt).toBe(PROMPT)
  const folder = mkdtempSync(join(tmpdir(), 'ggflux-readme-'))
  try {
    const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
    const { status, stderr } = spawnSync(process.execPath, [main, 'generate', PROMPT], {
      cwd: folder,
      encoding: 'utf8',
    })
    expect(status, stderr).toBe(0)
    const [name] = readdirSync(folder)
    expect(name).toMatch(/^ggflux-\d+\.png$/)
    const { width, height, data } = PNG.sync.read(readFileSync(join(folder, name!)))
    const rgb = Uint8Array.from(data.filter((_, i) => i % 4 !== 3))
    const wanted: Wanted = {
      things: [
        { shape: 'circle', color: 'red' },
        { shape: 'square', color: 'blue' },
      ],
      relation: 'left of',
      background: { names: ['white'] },
    }
    const { count, things, relation, background } = agrees(judge(rgb, width, height), wanted)
    expect({ count, relation, background }).toEqual({ count: true, relation: true, background: true })
    expect(things.map(({ shape, color }) => ({ shape, color }))).toEqual([
      { shape: true, color: true },
      { shape: true, color: true },
    ])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('another seed gives another picture where the prompt leaves something open', async () => {
  const seeds = [1, 2, 3, 4, 5, 6]
  const pictures: Buffer[] = []
  for (const seed of seeds) pictures.push(await pipe.generate({ prompt: 'a red heart', seed, format: 'raw' }))
  const backgrounds = pictures.map((rgb) => judge(rgb, 128, 128).background.names.join(' to '))
  expect(new Set(backgrounds).size, backgrounds.join(', ')).toBeGreaterThanOrEqual(3)
})

test('the same seed gives the same bytes, in every run and with every number of threads; another seed does not', async () => {
  const make = (pipe: FluxPipeline, seed: number) => pipe.generate({ prompt: PROMPT, seed, format: 'raw' })
  const first = await make(pipe, 1)
  expect(Buffer.compare(await make(pipe, 1), first)).toBe(0)
  expect(Buffer.compare(await make(pipe, 2), first)).not.toBe(0)
  for (const threads of [1, 2, 3]) {
    await using again = await loadTiny({ threads })
    expect(Buffer.compare(await make(again, 1), first), `${threads} threads`).toBe(0)
  }
})

test('previews come nearer to the picture at every step, in most runs', { timeout: 120_000 }, async () => {
  const runs = some([...single, ...pair], 24)
  let falling = 0
  for (const [seed, { prompt }] of runs.entries()) {
    const events = await collect(pipe.stream({ prompt, seed, preview: {}, format: 'raw' }))
    const image = events.at(-1)!
    if (image.type !== 'image') throw new Error('the last event is the picture')
    const target = shrunk(image.image, image.width, image.height)
    const distances = events.flatMap((event) =>
      event.type === 'step' && event.preview ? [distance(event.preview.data, target)] : [],
    )
    expect(distances).toHaveLength(8)
    // a byte of rounding is not a step back
    if (distances.every((value, i) => i === 0 || value <= distances[i - 1]! + 0.25)) falling++
    expect(distances.at(-1)!, prompt).toBeLessThan(distances[0]!)
  }
  console.log(`previews come nearer at each step in ${falling} of ${runs.length} runs`)
  expect(falling / runs.length).toBeGreaterThan(0.5)
})

/** Means of 8 x 8 pixels. */
function shrunk(rgb: Uint8Array, width: number, height: number): Float32Array {
  const small = new Float32Array((width / 8) * (height / 8) * 3)
  for (let i = 0; i < rgb.length; i++) {
    const [pixel, channel] = [Math.floor(i / 3), i % 3]
    const [x, y] = [pixel % width, Math.floor(pixel / width)]
    small[(Math.floor(y / 8) * (width / 8) + Math.floor(x / 8)) * 3 + channel]! += rgb[i]! / 64
  }
  return small
}

/** Root of the mean square, in bytes. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return Math.sqrt(sum / a.length)
}
