// Random damage to tables, configurations and calls of all networks: node fuzz.mjs <seed> <rounds> <flux> <t5> <clip> <autoencoder> <siglip> <clip-vision> <redux>
import { openNetworkFile } from '../../../dist/networks/network-file.js'
import { networkDefinition } from '../../../dist/networks/registry.js'
import { nativeAddon } from '../../../dist/native/addon.js'

const [seed, rounds, ...models] = process.argv.slice(2)
let state = Number(seed)

/** 0 to n - 1, from a linear congruential generator: the same run for the same seed. */
function random(n) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * n)
}
const pick = (list) => list[random(list.length)]

const NUMBERS = [
  0,
  1,
  -1,
  2,
  3,
  7,
  8,
  31,
  32,
  33,
  64,
  255,
  256,
  257,
  1000,
  4096,
  65536,
  2 ** 20,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  1e300,
  0.5,
  NaN,
  Infinity,
  -Infinity,
]
const LIMIT = 2 ** 28 // bytes of one load or call, so that sizes that are merely large are refused quickly

const KINDS = ['flux', 't5', 'clip', 'autoencoder', 'siglip', 'clip-vision', 'redux']
const networks = await Promise.all(KINDS.map((kind, i) => openNetworkFile(kind, models[i])))

function damage(tensors, config) {
  const tensor = pick(tensors)
  const [piece] = tensor.pieces
  const field = pick([
    'name',
    'type',
    'shape',
    'file',
    'offset',
    'bytes',
    'scale',
    'cut',
    'float8',
    'missing',
    'twice',
    'config',
    'config',
    'swap',
    'none',
    'none',
    'none',
  ])
  if (field === 'name') tensor.name = pick(tensors).name
  if (field === 'type') tensor.type = random(50) - 2
  if (field === 'shape') tensor.shape[random(5)] = pick(NUMBERS)
  if (field === 'file') piece.file = pick(NUMBERS)
  if (field === 'offset') piece.offset = random(2) ? pick(NUMBERS) : piece.offset + random(1000) - 500
  if (field === 'bytes') piece.bytes = random(2) ? pick(NUMBERS) : piece.bytes + random(1000) - 500
  if (field === 'scale') piece.scale = random(2) ? pick(NUMBERS) : piece.offset
  if (field === 'cut') {
    const bytes = random(piece.bytes)
    tensor.pieces = [
      { ...piece, bytes },
      { ...piece, offset: piece.offset + bytes, bytes: piece.bytes - bytes },
    ]
  }
  if (field === 'float8') tensor.float8 = pick(['e4m3fn', 'e5m2', 'e8m0', 5])
  if (field === 'missing') tensors.splice(tensors.indexOf(tensor), 1)
  if (field === 'twice') tensors.push({ ...pick(tensors), name: tensor.name })
  if (field === 'config') config[pick(Object.keys(config))] = pick(NUMBERS)
  if (field === 'swap') [tensor.pieces, tensors[0].pieces] = [tensors[0].pieces, tensor.pieces]
}

/** A call that fits the network, and then some. */
function call(kind, config) {
  const n = 1 + random(20)
  const m = 1 + random(10)
  const ints = (length, limit) => Int32Array.from({ length }, () => random(limit))
  const floats = (length) => Float32Array.from({ length }, () => random(2000) / 1000 - 1)
  const c = config
  const axes = [ints(n + m, 64), ints(n + m, 64), ints(n + m, 64)]
  const used = random(8)
  const biased = random(2)
  const patch = (count) => floats(3 * c.patchSize ** 2 * count)
  const made = {
    flux: () => [
      'predict',
      [n, m, used, biased],
      [
        floats(n * c.inChannels),
        floats(m * c.contextInDim),
        floats(c.vecInDim),
        floats(256),
        ...(c.guidanceEmbed ? [floats(256)] : []),
        ...axes.filter((_, i) => used & (1 << i)),
        ...(biased ? [floats(m * (m + 1))] : []),
      ],
    ],
    siglip: () => ['encode', [], [patch(Math.floor(c.imageSize / c.patchSize) ** 2)]],
    'clip-vision': () => ['encode', [], [patch(Math.floor(c.imageSize / c.patchSize) ** 2)]],
    redux: () => ['project', [n], [floats(n * c.reduxDim)]],
    t5: () => ['encode', [n], [ints(n, c.vocabSize), ints(n * n, c.numBuckets)]],
    clip: () => ['encode', [n], [ints(n, c.vocabSize), Int32Array.from({ length: n }, (_, i) => i)]],
    autoencoder: () =>
      random(2) ? ['decode', [m, 2], [floats(16 * m * 2)]] : ['encode', [8 * m, 16], [floats(3 * 8 * m * 16)]],
  }[kind]()
  const [, shape, inputs] = made
  const i = random(inputs.length)
  const part = pick(['mode', 'shape', 'length', 'type', 'index', 'value', 'missing', 'none', 'none', 'none'])
  if (part === 'mode') made[0] = pick(['predict', 'encode', 'decode', 'project', ''])
  if (part === 'shape') shape[random(shape.length + 1)] = pick(NUMBERS)
  if (part === 'length') inputs[i] = inputs[i].slice(random(3) - 1)
  if (part === 'type')
    inputs[i] = pick([new Float32Array(inputs[i]), new Int32Array(inputs[i]), new Float64Array(3), 7, null])
  if (part === 'index') inputs[i][random(inputs[i].length)] = pick(NUMBERS)
  if (part === 'value' && inputs[i] instanceof Float32Array) inputs[i].fill(pick([NaN, Infinity, 3e38, 1e-45]))
  if (part === 'missing') inputs.splice(i, 1)
  return made
}

const { Network } = nativeAddon()
const counts = { refused: 0, loaded: 0, evaluated: 0 }

function refuse(error) {
  if (!(error instanceof Error) || !/^FLUX_|expected|Invalid argument|Cannot convert/i.test(error.message)) throw error
  counts.refused++
}

for (let round = 0; round < Number(rounds); round++) {
  const { kind, file, tensors, config } = pick(networks)
  const table = tensors.map((tensor) => ({
    ...tensor,
    shape: [...tensor.shape],
    pieces: tensor.pieces.map((piece) => ({ ...piece })),
  }))
  const numbers = networkDefinition(kind).nativeConfig(config)
  damage(table, numbers)
  let network
  try {
    network = new Network(kind, [file.path], table, numbers, {
      device: 'CPU',
      threads: 1,
      precision: pick(['auto', 'f32', 'bf16']),
    })
    await network.load(LIMIT)
    counts.loaded++
  } catch (error) {
    refuse(error)
    continue
  }
  for (let i = 0; i < 3; i++) {
    try {
      await network.run(...call(kind, config), LIMIT)
      counts.evaluated++
    } catch (error) {
      refuse(error)
    }
  }
  await network.close()
}
console.log(`${counts.refused} refused, ${counts.loaded} loaded, ${counts.evaluated} evaluated`)
