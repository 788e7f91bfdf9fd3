import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { canny } from '../../lib/index.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { judge } from '../support/judge/judge.js'
import { draw, pick, sceneSvg, seeded, standingOut, type DrawnThing, type Scene } from '../support/judge/scenes.js'
import { heldOutPrompts, percent } from '../support/judge/trial.js'
import { BACKGROUNDS, BACKGROUND_NAMES, COLORS, type BackgroundName, type Rgb } from '../support/judge/world.js'
import { rgbDistance } from '../support/judge/colors.js'
import { loadTiny } from '../support/tiny.js'

const SIDE = 128

let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny()
})
afterAll(() => pipe?.close())

/** the 12 pairs of colour and shape that no network was trained on */
const pairs = [
  ...new Map(
    heldOutPrompts().single.map(({ things: [thing] }) => [`${thing!.color} ${thing!.shape}`, thing!]),
  ).values(),
]

/** A scene of one held-out thing, anywhere, of any size. */
function sceneOf({ color, shape }: Pick<DrawnThing, 'color' | 'shape'>, seed: number): Scene {
  const random = seeded(seed)
  const names = BACKGROUND_NAMES.filter((name) => standingOut({ names: [name], direction: null }).includes(color))
  const radius = 16 + 16 * random()
  const place = () => 1.3 * radius + (SIDE - 2.6 * radius) * random()
  const thing: DrawnThing = { shape, color, size: 'medium', x: place(), y: place(), radius }
  return { width: SIDE, height: SIDE, background: { names: [pick(random, names)], direction: null }, things: [thing] }
}

/** Which pixels are nearer to the thing's colour than to the background's. */
function cover(rgb: Uint8Array, thing: Rgb, background: Rgb): boolean[] {
  return Array.from({ length: rgb.length / 3 }, (_, i) => {
    const pixel = [rgb[3 * i]!, rgb[3 * i + 1]!, rgb[3 * i + 2]!] as const
    return rgbDistance(pixel, thing) < rgbDistance(pixel, background)
  })
}

/** Intersection over union. */
function overlap(a: boolean[], b: boolean[]): number {
  const count = (both: (x: boolean, y: boolean) => boolean) => a.filter((x, i) => both(x, b[i]!)).length
  return count((x, y) => x && y) / count((x, y) => x || y)
}

const mean = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0) / numbers.length

test('the outline ControlNet draws what the prompt says inside the outline', { timeout: 300_000 }, async () => {
  const overlaps = { outlined: [] as number[], free: [] as number[] }
  const scenes = [...pairs, ...pairs]
  let right = 0
  for (const [i, pair] of scenes.entries()) {
    const scene = sceneOf(pair, 100 + i)
    const { rgb } = await draw(sceneSvg(scene))
    const [background] = scene.background.names as [BackgroundName]
    const image = await canny({ data: rgb, width: SIDE, height: SIDE }, 100, 200)
    const prompt = `a ${pair.color} ${pair.shape} on a ${background} background`
    const wanted = cover(rgb, COLORS[pair.color], BACKGROUNDS[background])
    for (const kind of i < pairs.length ? (['outlined', 'free'] as const) : (['outlined'] as const)) {
      const controlNets = kind === 'outlined' ? [{ path: 'tiny-outline', image }] : []
      const drawn = await pipe.generate({ prompt, seed: i, width: SIDE, height: SIDE, controlNets, format: 'raw' })
      overlaps[kind].push(overlap(cover(drawn, COLORS[pair.color], BACKGROUNDS[background]), wanted))
      if (kind === 'free') continue
      const { things } = judge(drawn, SIDE, SIDE)
      right += Number(things.length === 1 && things[0]!.color === pair.color && things[0]!.shape === pair.shape)
    }
  }
  console.log(
    `inside the outline: overlap ${percent(mean(overlaps.outlined))} (at least ${percent(Math.min(...overlaps.outlined))}), ` +
      `${right} of ${scenes.length} right; without it ${percent(mean(overlaps.free))}`,
  )
  expect(mean(overlaps.outlined)).toBeGreaterThan(0.8)
  expect(mean(overlaps.free)).toBeLessThan(0.5)
  // 75 % of 36 when it was trained, less a standard error and a half of 24
  expect(right).toBeGreaterThanOrEqual(0.6 * scenes.length)
})

test('an estimate counts it', async () => {
  const image = { data: new Uint8Array(SIDE * SIDE * 3), width: SIDE, height: SIDE }
  const [plain, outlined] = await Promise.all([
    pipe.estimate({}),
    pipe.estimate({ controlNets: [{ path: 'tiny-outline', image }] }),
  ])
  expect(outlined.operations.step).toBeGreaterThan(1.1 * plain.operations.step)
})

test('it is inspected by its name', async () => {
  const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
  const { status, stdout } = spawnSync(process.execPath, [main, 'inspect', 'tiny-outline'], { encoding: 'utf8' })
  expect(status).toBe(0)
  expect(stdout).toMatch(/outline\.gguf\n +role +controlnet\n/)
})
