import { join } from 'node:path'
import { afterAll, beforeAll, test } from 'vitest'
import { FluxTransformer } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import {
  changedWeights,
  expectToActAs,
  hidden,
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

// XLabs' processors: 1 for the image and 2 for the text in double blocks; in single blocks query, key and value of `linear1`, and all of `linear2`.

const folder = temporaryFolder()

const LAYERS: [processor: string, comfy: string, weight: string, rows: number][] = [
  [
    'double_blocks.0.processor.qkv_lora1',
    'double_blocks.0.img_attn.qkv',
    'double_blocks.0.img_attn.qkv.weight',
    3 * hidden,
  ],
  [
    'double_blocks.0.processor.proj_lora1',
    'double_blocks.0.img_attn.proj',
    'double_blocks.0.img_attn.proj.weight',
    hidden,
  ],
  [
    'double_blocks.1.processor.qkv_lora2',
    'double_blocks.1.txt_attn.qkv',
    'double_blocks.1.txt_attn.qkv.weight',
    3 * hidden,
  ],
  [
    'double_blocks.1.processor.proj_lora2',
    'double_blocks.1.txt_attn.proj',
    'double_blocks.1.txt_attn.proj.weight',
    hidden,
  ],
  ['single_blocks.0.processor.qkv_lora', 'single_blocks.0.linear1_qkv', 'single_blocks.0.linear1.weight', 3 * hidden],
  ['single_blocks.1.processor.proj_lora', 'single_blocks.1.linear2', 'single_blocks.1.linear2.weight', hidden],
]
const factors = LAYERS.map(([processor, comfy, weight, rows], i) => {
  const columns = weights.get(weight)!.shape[1]!
  return { processor, comfy, weight, down: numbers([RANK, columns], 10 + i), up: numbers([rows, RANK], 20 + i) }
})
const deltas: Deltas = new Map(factors.map(({ weight, down, up }) => [weight, [{ delta: product(up, down) }]]))

let flux: FluxTransformer
let expected: string
beforeAll(async () => {
  flux = await FluxTransformer.load(official, onTestBackend)
  expected = await changedWeights(official, join(folder, 'merged.safetensors'), deltas, 0.8)
})
afterAll(() => flux?.close())

test.each([
  ["XLabs' names", '', 'processor', ['down', 'up']],
  ["XLabs' names with ComfyUI's prefix", 'diffusion_model.', 'processor', ['down', 'up']],
  ["ComfyUI's names for them", 'diffusion_model.', 'comfy', ['lora_down', 'lora_up']],
] as const)('%s', async (_, prefix, naming, [down, up]) => {
  const sources = factors.flatMap((one) => [
    tensorSource(`${prefix}${one[naming]}.${down}.weight`, one.down),
    tensorSource(`${prefix}${one[naming]}.${up}.weight`, one.up),
  ])
  await expectToActAs(
    flux,
    { path: await loraFile(join(folder, 'xlabs.safetensors'), sources), scale: 0.8 },
    expected,
    folder,
  )
})
