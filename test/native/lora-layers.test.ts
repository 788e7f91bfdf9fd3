import { join } from 'node:path'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { FluxTransformer } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { diffusersFlux } from '../support/dialects.js'
import {
  changedWeights,
  expectToActAs,
  flat,
  halvesSwapped,
  kronecker,
  loraFile,
  numbers,
  official,
  product,
  RANK,
  tensorSource,
  weights,
  type Deltas,
} from '../support/lora.js'
import { temporaryFolder } from '../support/temporary.js'

// Every linear layer of the transformer can have a LoRA, inside and outside of the blocks, in every naming.

const folder = temporaryFolder()

const layers = [...weights].flatMap(([name, { shape }], i) => {
  if (shape.length !== 2) return []
  const [rows, columns] = shape as [number, number]
  return [
    {
      layer: name.replace(/\.weight$/, ''),
      down: numbers([RANK, columns], 100 + i, 2e-6),
      up: numbers([rows, RANK], 300 + i, 2e-6),
    },
  ]
})
type Layer = (typeof layers)[number]

/** what the layer is called, and its rows of `up` */
const officialParts = ({ layer, up }: Layer) => [[layer, up] as const]
const diffusersParts = ({ layer, up }: Layer) =>
  diffusersFlux(`${layer}.weight`, up).map(([name, part]) => [name.replace(/\.weight$/, ''), part] as const)

const NAMINGS: Record<
  string,
  [parts: typeof officialParts, layer: (name: string) => string, suffixes: [down: string, up: string]]
> = {
  'the official program': [officialParts, (name) => name, ['lora_A.weight', 'lora_B.weight']],
  ComfyUI: [officialParts, (name) => `diffusion_model.${name}`, ['lora_down.weight', 'lora_up.weight']],
  kohya: [officialParts, (name) => `lora_unet_${flat(name)}`, ['lora_down.weight', 'lora_up.weight']],
  diffusers: [diffusersParts, (name) => `transformer.${name}`, ['lora_A.weight', 'lora_B.weight']],
  'PEFT, with the name of an adapter': [
    diffusersParts,
    (name) => `base_model.model.transformer.${name}`,
    ['lora_A.mine.weight', 'lora_B.mine.weight'],
  ],
  'diffusers of old': [
    diffusersParts,
    (name) => `transformer.${name}`,
    ['lora_linear_layer.down.weight', 'lora_linear_layer.up.weight'],
  ],
  OneTrainer: [diffusersParts, (name) => `lora_transformer_${flat(name)}`, ['lora_down.weight', 'lora_up.weight']],
  SimpleTuner: [diffusersParts, (name) => `lycoris_${flat(name)}`, ['lora_down.weight', 'lora_up.weight']],
}

let flux: FluxTransformer
beforeAll(async () => void (flux = await FluxTransformer.load(official, onTestBackend)))
afterAll(() => flux?.close())

describe('a LoRA for all linear layers', () => {
  const deltas: Deltas = new Map(
    layers.map(({ layer, down, up }) => [`${layer}.weight`, [{ delta: product(up, down) }]]),
  )

  let expected: string
  beforeAll(async () => {
    expected = await changedWeights(official, join(folder, 'all-merged.safetensors'), deltas, 0.7)
  })

  test.each(Object.entries(NAMINGS))('in the names of %s', async (_, [parts, naming, [down, up]]) => {
    const sources = layers.flatMap((one) =>
      parts(one).flatMap(([name, part]) => [
        tensorSource(`${naming(name)}.${down}`, one.down),
        tensorSource(`${naming(name)}.${up}`, part),
      ]),
    )
    await expectToActAs(
      flux,
      { path: await loraFile(join(folder, 'all.safetensors'), sources), scale: 0.7 },
      expected,
      folder,
    )
  })
})

// diffusers' last modulation gives the scale before the shift
describe("diffusers' norm_out", () => {
  const [layer, theirs] = ['final_layer.adaLN_modulation.1', 'lora_transformer_norm_out_linear']
  const [rows, columns] = weights.get(`${layer}.weight`)!.shape as [number, number]
  const acts = async (sources: TensorSource[], theirDelta: Float64Array) => {
    const expected = await changedWeights(
      official,
      join(folder, 'out-merged.safetensors'),
      new Map([[`${layer}.weight`, [{ delta: halvesSwapped(theirDelta) }]]]),
    )
    await expectToActAs(flux, { path: await loraFile(join(folder, 'out.safetensors'), sources) }, expected, folder)
  }

  test('with a LoHa', async () => {
    const [a1, b1, a2, b2] = [
      numbers([rows, 2], 1, 3e-5),
      numbers([2, columns], 2, 3e-5),
      numbers([rows, 2], 3, 3e-5),
      numbers([2, columns], 4, 3e-5),
    ]
    const sources = Object.entries({ hada_w1_a: a1, hada_w1_b: b1, hada_w2_a: a2, hada_w2_b: b2 }).map(
      ([name, tensor]) => tensorSource(`${theirs}.${name}`, tensor),
    )
    const [one, two] = [product(a1, b1), product(a2, b2)]
    await acts(
      sources,
      one.map((value, i) => value * two[i]!),
    )
  })

  test.each([[8], [1]])('with a LoKr whose first matrix has %d rows', async (outer) => {
    const [one, two] = [numbers([outer, 4], 5, 1e-5), numbers([rows / outer, columns / 4], 6, 1e-5)]
    await acts([tensorSource(`${theirs}.lokr_w1`, one), tensorSource(`${theirs}.lokr_w2`, two)], kronecker(one, two))
  })
})
