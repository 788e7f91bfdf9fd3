import type { Seen, SeenThing } from './judge.js'
import {
  SIZES,
  type BackgroundName,
  type ColorName,
  type Direction,
  type Relation,
  type Shape,
  type SizeName,
} from './world.js'

export interface WantedThing {
  shape: Shape
  color: ColorName
  size?: SizeName
}

export interface Wanted {
  /** one, or two with the left or upper one first */
  things: WantedThing[]
  /** of the first thing to the second */
  relation?: Relation
  /** not judged where it is missing */
  background?: { names: BackgroundName[]; direction?: Direction | null }
}

export interface Agreement {
  /** as many things as wanted */
  count: boolean
  /** of every wanted thing, whichever place it stands at */
  things: { seen: SeenThing | undefined; shape: boolean; color: boolean; size: boolean }[]
  relation: boolean
  background: boolean
  all: boolean
}

/**
 * Pairs wanted with seen things so that most is right, and says what is. Colours and shapes are told apart from the relation: of a
 * picture with the right things in swapped places only `relation` is false.
 */
export function agrees(seen: Seen, wanted: Wanted): Agreement {
  const background = backgroundAgrees(seen, wanted)
  const count = seen.things.length === wanted.things.length
  const tries = assignments(seen.things, wanted.things.length).map((chosen) => {
    const things = wanted.things.map((thing, i) => thingAgrees(chosen[i], thing))
    const relation = relationHolds(seen, chosen, wanted.relation)
    const right = things.reduce(
      (sum, { shape, color, size }) => sum + Number(shape) + Number(color) + 0.5 * Number(size),
      0,
    )
    const all = count && relation && background && things.every(({ shape, color, size }) => shape && color && size)
    return { right: right + 0.25 * Number(relation), result: { count, things, relation, background, all } }
  })
  return tries.reduce((a, b) => (b.right > a.right ? b : a)).result
}

/** Every ordered choice of `count` of the things; undefined stands where there are too few. */
function assignments(things: (SeenThing | undefined)[], count: number): (SeenThing | undefined)[][] {
  if (count === 0) return [[]]
  const pool = things.length < count ? [...things, ...Array<undefined>(count - things.length).fill(undefined)] : things
  return pool.flatMap((thing, i) => assignments(pool.toSpliced(i, 1), count - 1).map((rest) => [thing, ...rest]))
}

function thingAgrees(seen: SeenThing | undefined, wanted: WantedThing): Agreement['things'][number] {
  return {
    seen,
    shape: seen?.shape === wanted.shape,
    color: seen?.color === wanted.color,
    size: seen !== undefined && (wanted.size === undefined || sizeName(seen.size) === wanted.size),
  }
}

/** The nearest by ratio. */
export function sizeName(size: number): SizeName {
  const away = (name: SizeName) => Math.abs(Math.log(size / SIZES[name]))
  return (Object.keys(SIZES) as SizeName[]).reduce((a, b) => (away(b) < away(a) ? b : a))
}

/** The centres lie apart along the relation's axis, and not clearly more so along the other. */
function relationHolds(
  { width, height }: Seen,
  [a, b]: (SeenThing | undefined)[],
  relation: Relation | undefined,
): boolean {
  if (!relation) return true
  if (!a || !b) return false
  const [dx, dy] = [(b.x - a.x) * width, (b.y - a.y) * height]
  const [along, across] = relation === 'left of' ? [dx, dy] : [dy, dx]
  return along > 0.1 * Math.min(width, height) && along > 0.8 * Math.abs(across)
}

function backgroundAgrees({ background }: Seen, { background: wanted }: Wanted): boolean {
  if (!wanted) return true
  const names =
    background.names.length === wanted.names.length && wanted.names.every((name, i) => background.names[i] === name)
  return names && (wanted.names.length === 1 || !wanted.direction || background.direction === wanted.direction)
}
