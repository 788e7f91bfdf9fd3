import { afterAll, beforeAll, expect, test } from 'vitest'
import { nativeAddon, type NativeAdapter, type NativeFactor, type NativeNetwork } from '../../lib/native/addon.js'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { goldenWeights } from '../support/golden.js'

// ggml ends the process when a graph has more nodes than it was given room for.

const PLENTY = 2 ** 34
const F16 = 1
const TOKENS = 32 // from here on our own kernels are used
const t5 = await openNetworkFile('t5', await goldenWeights('t5-tiny'))
const shapes = new Map(t5.tensors.map(({ name, shape }) => [name, shape]))
const matrices = [...shapes.keys()].filter((name) => /\.(q|k|v|o|wi_0|wi_1|wo)\.weight$/.test(name))
const vectors = [...shapes.keys()].filter((name) => name.endsWith('layer_norm.weight'))
// Numbers for all factors, whatever they say; F16 has to be widened.
const data = t5.tensors.find(({ name }) => name === 'shared.weight')!.pieces[0]!

type Adapter = (columns: number, rows: number) => Omit<NativeAdapter, 'weight' | 'firstRow' | 'scale'>
const pair = (columns: number, rows: number, rank = 2): NativeFactor => ({
  in: columns,
  out: rows,
  down: `${rank} x ${columns}`,
  up: `${rows} x ${rank}`,
  rank,
})
const whole = (columns: number, rows: number): NativeFactor => ({
  in: columns,
  out: rows,
  down: `${rows} x ${columns}`,
})

const MATRIX_ADAPTERS: Record<string, Adapter> = {
  product: (columns, rows) => ({ kind: 'product', left: pair(columns, rows), rows, halvesSwapped: true }),
  difference: (columns, rows) => ({ kind: 'difference', left: whole(columns, rows), rows, halvesSwapped: true }),
  hadamard: (columns, rows) => ({
    kind: 'hadamard',
    left: pair(columns, rows),
    right: pair(columns, rows),
    rows,
    halvesSwapped: true,
  }),
  kronecker: (columns, rows) => ({
    kind: 'kronecker',
    left: pair(2, 2, 1),
    right: pair(columns / 2, rows / 2),
    rows,
    halvesSwapped: true,
  }),
  'some of the rows': (columns, rows) => ({
    kind: 'product',
    left: pair(columns, rows / 2),
    rows: rows / 2,
    halvesSwapped: true,
  }),
}
const VECTOR_ADAPTERS: Record<string, Adapter> = {
  difference: (_, rows) => ({ kind: 'difference', left: whole(1, rows), rows, halvesSwapped: true }),
  replacement: (_, rows) => ({ kind: 'replacement', left: whole(1, rows), rows, halvesSwapped: true }),
}

let network: NativeNetwork
beforeAll(async () => {
  const options = { device: 'CPU', threads: 2, precision: 'f32' } as const
  network = new (nativeAddon().Network)('t5', [t5.file.path], t5.tensors, { ...t5.config }, options)
  await network.load(PLENTY)
})
afterAll(() => network?.close())

/** What `count` adapters for each of the tensors add to the nodes of the graph, and to the room for them. */
async function added(names: string[], adapter: Adapter, count: number): Promise<{ nodes: number; room: number }> {
  const evaluate = async (adapters: NativeAdapter[]) => {
    const factors = adapters.flatMap(({ left, right }) => [left, right ?? []].flat())
    const files = new Set(factors.flatMap(({ down, up }) => [down, up ?? []].flat()))
    // A table has room for each of its tensors once.
    const filler = Array.from({ length: 2 * factors.length }, (_, i) => `1 x ${i + 1}`).filter(
      (name) => !files.has(name),
    )
    const tensors = [...files, ...filler].map((name) => {
      const shape = name.split(' x ').map(Number).reverse()
      const bytes = 2 * shape.reduce((a, b) => a * b)
      return { name, type: F16, shape, pieces: [{ file: 0, offset: data.offset, bytes }] }
    })
    await network.adapt([t5.file.path], tensors, adapters, PLENTY)
    await network.run('encode', [TOKENS], [new Int32Array(TOKENS), new Int32Array(TOKENS ** 2)], PLENTY)
    return network.status()
  }
  const adapters = names.map((weight) => {
    const [columns, rows] = shapes.get(weight)!.length === 1 ? [1, shapes.get(weight)![0]!] : shapes.get(weight)!
    return { weight, firstRow: 0, scale: 1, ...adapter(columns!, rows!) }
  })
  const [none, all] = [await evaluate([]), await evaluate(Array(count).fill(adapters).flat())]
  return { nodes: all.nodes - none.nodes, room: all.maxNodes - none.maxNodes }
}

test.each([
  ...Object.entries(MATRIX_ADAPTERS).map(([name, adapter]) => [`a matrix: ${name}`, matrices, adapter] as const),
  ...Object.entries(VECTOR_ADAPTERS).map(([name, adapter]) => [`a vector: ${name}`, vectors, adapter] as const),
])('adapters have room in the graph, for %s', async (_, names, adapter) => {
  for (const count of [1, 3]) {
    const { nodes, room } = await added(names, adapter, count)
    expect(nodes).toBeGreaterThan(names.length * count)
    expect(nodes).toBeLessThanOrEqual(room)
  }
})
