import { describe, expect, test, vi } from 'vitest'
import { agrees, type Wanted } from '../support/judge/agreement.js'
import { rgbDistance } from '../support/judge/colors.js'
import { Confusion } from '../support/judge/confusion.js'
import { judge } from '../support/judge/judge.js'
import {
  draw,
  drawnThing,
  pick,
  randomScene,
  sceneSvg,
  seeded,
  standingOut,
  type Picture,
  type Scene,
} from '../support/judge/scenes.js'
import { blob, blurred, compressed, morph, noisy, shifted } from '../support/judge/spoil.js'
import { BACKGROUNDS, COLORS, COLOR_NAMES, SHAPES, type Rgb, type Shape } from '../support/judge/world.js'
import { patience } from '../support/patience.js'

// processor time of other work is waiting time here
vi.setConfig({ testTimeout: 300_000 * patience })

const look = ({ rgb, width, height }: Picture) => judge(rgb, width, height)

const scenes = (seed: number, count: number, width: number, height: number, keep = (_: Scene) => true): Scene[] => {
  const random = seeded(seed)
  const kept: Scene[] = []
  while (kept.length < count) {
    const scene = randomScene(random, width, height)
    if (keep(scene)) kept.push(scene)
  }
  return kept
}
const twoThings = ({ things }: Scene) => things.length === 2
const told = ({ shape, color, size }: Scene['things'][number]) => `${size} ${color} ${shape}`

/** Part of the scenes that the judge agrees with; where that is not all, what it saw and both confusion tables are printed. */
async function agreement(list: Scene[], picture: (scene: Scene) => Promise<Picture>): Promise<number> {
  const [shapes, colors] = [new Confusion('shape'), new Confusion('colour')]
  const wrong: string[] = []
  for (const scene of list) {
    const seen = look(await picture(scene))
    const { all, things } = agrees(seen, scene)
    things.forEach((thing, i) => {
      shapes.add(scene.things[i].shape, thing.seen?.shape ?? 'none')
      colors.add(scene.things[i].color, thing.seen?.color ?? 'none')
    })
    const wanted = `${scene.things.map(told).join(` ${scene.relation} `)} on ${scene.background.names.join(' to ')}`
    if (!all) wrong.push(`${wanted}: ${JSON.stringify(seen)}`)
  }
  if (wrong.length) console.log([...wrong, '', shapes, '', colors].join('\n'))
  return 1 - wrong.length / list.length
}

/** Part of the pictures that the judge agrees with, for pictures that are not what is wanted. */
async function mistaken(
  list: Scene[],
  show: (scene: Scene, i: number) => Promise<{ picture: Picture; wanted: Wanted }>,
): Promise<number> {
  let count = 0
  for (const [i, scene] of list.entries()) {
    const { picture, wanted } = await show(scene, i)
    if (agrees(look(picture), wanted).all) count++
  }
  return count / list.length
}

describe('true pictures', () => {
  test.each([
    [64, 64, 80, 0.97],
    [128, 128, 200, 0.99],
    [192, 96, 60, 0.99],
    [96, 192, 40, 0.99],
    [256, 256, 40, 0.99],
  ])('%i x %i', async (width, height, count, least) => {
    expect(
      await agreement(scenes(width, count, width, height), (scene) => draw(sceneSvg(scene))),
    ).toBeGreaterThanOrEqual(least)
  })

  test('every shape in every colour', async () => {
    const backgrounds = scenes(7, 60, 128, 128).map(({ background }) => background)
    const list = SHAPES.flatMap((shape, i) =>
      COLOR_NAMES.map((color, k): Scene => {
        const fitting = backgrounds.filter((background) => standingOut(background).includes(color))
        const background = fitting[(i * COLOR_NAMES.length + k) % fitting.length]
        return {
          width: 128,
          height: 128,
          background,
          things: [{ shape, color, size: 'medium', x: 58.3, y: 66.6, radius: 21.5 }],
        }
      }),
    )
    expect(await agreement(list, (scene) => draw(sceneSvg(scene)))).toBe(1)
  })

  test('places and sizes are measured', async () => {
    for (const scene of scenes(3, 30, 192, 128)) {
      const { things } = agrees(look(await draw(sceneSvg(scene))), scene)
      things.forEach(({ seen }, i) => {
        const { x, y, radius } = scene.things[i]
        expect(Math.abs(seen!.x * 192 - x), told(scene.things[i])).toBeLessThan(2)
        expect(Math.abs(seen!.y * 128 - y), told(scene.things[i])).toBeLessThan(2)
        expect(Math.abs((seen!.size * 128) / radius - 1), told(scene.things[i])).toBeLessThan(0.06)
      })
    }
  })

  test('things of one colour that touch are two', async () => {
    const thing = { color: 'green', size: 'medium', y: 64, radius: 22 } as const
    for (const [left, right] of [
      ['diamond', 'circle'],
      ['heart', 'square'],
      ['circle', 'star'],
      ['ring', 'ring'],
    ] as const) {
      const things = [
        { ...thing, shape: left, x: 42 },
        { ...thing, shape: right, x: 83 },
      ]
      const scene: Scene = {
        width: 128,
        height: 128,
        background: { names: ['beige'], direction: null },
        things,
        relation: 'left of',
      }
      expect(await agreement([scene], (it) => draw(sceneSvg(it))), `${left} and ${right}`).toBe(1)
    }
  })
})

describe('damaged pictures', () => {
  const list = scenes(21, 60, 128, 128)
  const random = seeded(22)
  test.each<[string, (picture: Picture) => Picture | Promise<Picture>]>([
    ['blur of 1 pixel', (picture) => blurred(picture, 1)],
    ['blur of 1.5 pixels', (picture) => blurred(picture, 1.5)],
    ['noise', (picture) => noisy(picture, 6, random)],
    ['strong noise', (picture) => noisy(picture, 15, random)],
    ['other colours', (picture) => shifted(picture, 10, random)],
    ['JPEG', (picture) => compressed(picture, 60)],
    ['all of it', async (picture) => compressed(noisy(shifted(await blurred(picture, 1), 8, random), 6, random), 60)],
  ])('%s', async (_, damage) => {
    expect(await agreement(list, async (scene) => damage(await draw(sceneSvg(scene))))).toBeGreaterThanOrEqual(0.97)
  })
})

describe('wrong pictures', () => {
  const random = seeded(31)
  const other = <T>(list: readonly T[], not: T) =>
    pick(
      random,
      list.filter((item) => item !== not),
    )
  const white: Scene['background'] = { names: ['white'], direction: null }
  const plain = (things: Scene['things'] = []): Scene => ({ width: 128, height: 128, background: white, things })
  const one = (shape: Shape): Wanted => ({ things: [{ shape, color: 'blue' }] })
  const BLUE = 'rgb(45,85,215)'

  test('another colour', async () => {
    const wrong = await mistaken(scenes(32, 40, 128, 128), async (scene) => {
      const [first, ...rest] = scene.things
      const drawn = { ...first, color: other(standingOut(scene.background), first.color) }
      return { picture: await draw(sceneSvg({ ...scene, things: [drawn, ...rest] })), wanted: scene }
    })
    expect(wrong).toBe(0)
  })

  test('another shape', async () => {
    const wrong = await mistaken(scenes(33, 40, 128, 128), async (scene) => {
      const [first, ...rest] = scene.things
      const drawn = { ...first, shape: other(SHAPES, first.shape) }
      return { picture: await draw(sceneSvg({ ...scene, things: [drawn, ...rest] })), wanted: scene }
    })
    expect(wrong).toBe(0)
  })

  test('another size', async () => {
    const wrong = await mistaken(scenes(34, 40, 128, 128), async (scene) => {
      const things = scene.things.map((thing) => ({
        ...thing,
        size: other(['small', 'medium', 'large'] as const, thing.size),
      }))
      return { picture: await draw(sceneSvg(scene)), wanted: { ...scene, things } }
    })
    expect(wrong).toBe(0)
  })

  test('another background', async () => {
    const wrong = await mistaken(scenes(35, 40, 128, 128), async (scene, i) => {
      const { names, direction } = scene.background
      const turned = { names, direction: direction === 'down' ? 'right' : 'down' } as const
      const apart = Object.keys(BACKGROUNDS) as (keyof typeof BACKGROUNDS)[]
      const renamed = { names: [other(apart, names[0]), ...names.slice(1)], direction }
      return {
        picture: await draw(sceneSvg(scene)),
        wanted: { ...scene, background: direction && i % 2 ? turned : renamed },
      }
    })
    expect(wrong).toBe(0)
  })

  test('swapped things: right but for the relation', async () => {
    const differing = (scene: Scene) =>
      twoThings(scene) &&
      (scene.things[0].shape !== scene.things[1].shape || scene.things[0].color !== scene.things[1].color)
    for (const scene of scenes(36, 30, 128, 128, differing)) {
      const seen = look(await draw(sceneSvg(scene)))
      const swapped = agrees(seen, { ...scene, things: scene.things.toReversed() })
      expect(swapped).toMatchObject({ count: true, relation: false, background: true, all: false })
      expect(swapped.things.every(({ shape, color }) => shape && color)).toBe(true)
      const across = scene.relation === 'above' ? 'left of' : 'above'
      expect(agrees(seen, { ...scene, relation: across })).toMatchObject({ relation: false, all: false })
    }
  })

  test('colours of the two things exchanged', async () => {
    const differing = (scene: Scene) =>
      twoThings(scene) &&
      scene.things[0].shape !== scene.things[1].shape &&
      scene.things[0].color !== scene.things[1].color
    for (const scene of scenes(37, 30, 128, 128, differing)) {
      const [a, b] = scene.things
      const exchanged = {
        ...scene,
        things: [
          { ...a, color: b.color },
          { ...b, color: a.color },
        ],
      }
      expect(agrees(look(await draw(sceneSvg(exchanged))), scene).all).toBe(false)
    }
  })

  test('a thing too few', async () => {
    for (const scene of scenes(38, 30, 128, 128, twoThings)) {
      const seen = look(await draw(sceneSvg({ ...scene, things: [pick(random, scene.things)] })))
      expect(agrees(seen, scene)).toMatchObject({ count: false, relation: false, all: false })
    }
  })

  test('a thing too many, and an empty picture', async () => {
    for (const scene of scenes(39, 25, 192, 192)) {
      const free = ([x, y]: readonly [number, number]) =>
        Math.min(...scene.things.map((thing) => Math.hypot(thing.x - x, thing.y - y) - 1.3 * thing.radius))
      const [x, y] = (
        [
          [20, 20],
          [172, 20],
          [20, 172],
          [172, 172],
        ] as const
      ).reduce((a, b) => (free(b) > free(a) ? b : a))
      const color = pick(random, standingOut(scene.background))
      const third = { shape: pick(random, SHAPES), color, size: 'small', x, y, radius: 13 } as const
      expect(agrees(look(await draw(sceneSvg(scene, drawnThing(third)))), scene)).toMatchObject({
        count: false,
        all: false,
      })
      const empty = look(await draw(sceneSvg({ ...scene, things: [] })))
      expect(empty.things).toEqual([])
      expect(agrees(empty, scene).all).toBe(false)
    }
  })

  test('noise', () => {
    for (let i = 0; i < 5; i++) {
      const rgb = Uint8Array.from({ length: 128 * 128 * 3 }, () => 256 * random())
      const seen = judge(rgb, 128, 128)
      expect(seen.background.names).toEqual([])
      expect(seen.things.filter(({ shape }) => shape !== 'unknown')).toEqual([])
    }
  })

  test('a blob', async () => {
    for (let i = 0; i < 40; i++) {
      const seen = look(await draw(sceneSvg(plain(), blob(random, 64, 64, pick(random, [16, 22, 30]), BLUE))))
      expect(seen.things).toMatchObject([{ shape: 'unknown', color: 'blue' }])
    }
  })

  test.each(SHAPES)('a glow where a %s should be', async (shape) => {
    const scene = plain([{ shape, color: 'blue', size: 'medium', x: 64, y: 64, radius: 22 }])
    expect(agrees(look(await blurred(await draw(sceneSvg(scene)), 11)), one(shape)).all).toBe(false)
  })

  test('half way between two shapes', async () => {
    for (const [i, a] of SHAPES.entries()) {
      for (const b of SHAPES.slice(i + 1)) {
        const seen = look(await draw(sceneSvg(plain(), await morph(a, b, 64, 64, 22, BLUE))))
        expect([a, b], `${a} and ${b}`).not.toContain(seen.things[0].shape)
      }
    }
  })
})

test('the colours of things lie as far apart as the segmentation relies on', () => {
  const colors = Object.values(COLORS) as Rgb[]
  expect(Math.min(...colors.flatMap((a, i) => colors.slice(i + 1).map((b) => rgbDistance(a, b))))).toBeGreaterThan(75)
})
