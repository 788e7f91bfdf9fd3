import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { FluxTransformer } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { devCase } from '../support/cases.js'
import { hidden, loraFile, official, RANK, tensorSource } from '../support/lora.js'
import { temporaryFolder } from '../support/temporary.js'

// Files that are no LoRAs for this transformer, and calls that cannot be followed.

const folder = temporaryFolder()
let flux: FluxTransformer
let plain: Float32Array
beforeAll(async () => {
  flux = await FluxTransformer.load(official, onTestBackend)
  plain = await flux.predict(devCase('b'))
})
afterAll(() => flux?.close())

const x = (name: string, ...shape: number[]) =>
  tensorSource(name, { shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) })
const layer = 'double_blocks.0.img_attn.proj'

test.each<[string, string, RegExp, () => TensorSource[]]>([
  [
    'a file of which nothing belongs here',
    'FLUX_UNSUPPORTED',
    /none of its 1 tensors/,
    () => [x('down_blocks.0.attn.to_q.lora_A.weight', 4, 8)],
  ],
  [
    'a whole model',
    'FLUX_UNSUPPORTED',
    /none of its 2 tensors/,
    () => [x('double_blocks.0.img_attn.norm.query_norm.scale', 128), x('img_in.weight', hidden, 64)],
  ],
  [
    'a type that is not read',
    'FLUX_UNSUPPORTED',
    /lora_A\.weight has type F8_E4M3; F32, F16, BF16 are read\. Use a version in one of these$/,
    () => {
      const [first, second] = [x(`${layer}.lora_A.weight`, RANK, hidden), x(`${layer}.lora_B.weight`, hidden, RANK)]
      return [{ ...first, type: 'F8_E4M3', data: new Uint8Array(RANK * hidden) }, second]
    },
  ],
  ['half a layer', 'FLUX_BAD_FILE', /proj has a first matrix/, () => [x(`${layer}.lora_A.weight`, RANK, hidden)]],
  ['an alpha alone', 'FLUX_BAD_FILE', /proj has alpha and not all that belongs to it/, () => [x(`${layer}.alpha`, 1)]],
  [
    'another width',
    'FLUX_BAD_FILE',
    /takes 64 numbers, but double_blocks\.0\.img_attn\.proj\.weight/,
    () => [x(`${layer}.lora_A.weight`, RANK, 64), x(`${layer}.lora_B.weight`, hidden, RANK)],
  ],
  [
    'matrices that do not fit',
    'FLUX_BAD_FILE',
    /is needed/,
    () => [x(`${layer}.lora_A.weight`, RANK, hidden), x(`${layer}.lora_B.weight`, hidden, RANK + 1)],
  ],
  [
    'three dimensions',
    'FLUX_BAD_FILE',
    /two dimensions/,
    () => [x(`${layer}.lora_A.weight`, RANK, hidden, 1), x(`${layer}.lora_B.weight`, hidden, RANK)],
  ],
  [
    'an alpha of two numbers',
    'FLUX_BAD_FILE',
    /one number/,
    () => [
      x(`${layer}.lora_A.weight`, RANK, hidden),
      x(`${layer}.lora_B.weight`, hidden, RANK),
      x(`${layer}.alpha`, 2),
    ],
  ],
  ['half a LoKr', 'FLUX_BAD_FILE', /has lokr_w1 and not all that belongs to it/, () => [x(`${layer}.lokr_w1`, 2, 2)]],
  [
    'a LoKr of another size',
    'FLUX_BAD_FILE',
    /takes 64 numbers/,
    () => [x(`${layer}.lokr_w1`, 8, 8), x(`${layer}.lokr_w2`, hidden / 8, 8)],
  ],
  [
    'a LoHa of two sizes',
    'FLUX_BAD_FILE',
    /makes another matrix/,
    () => [
      x(`${layer}.hada_w1_a`, hidden, 2),
      x(`${layer}.hada_w1_b`, 2, hidden),
      x(`${layer}.hada_w2_a`, hidden, 2),
      x(`${layer}.hada_w2_b`, 2, 64),
    ],
  ],
  [
    'a bias of another size',
    'FLUX_BAD_FILE',
    /but \[\d+\] is needed/,
    () => [
      x(`${layer}.lora_A.weight`, 2, hidden),
      x(`${layer}.lora_B.weight`, hidden, 2),
      x(`${layer}.lora_B.bias`, 3),
    ],
  ],
  [
    'a wider input elsewhere',
    'FLUX_BAD_FILE',
    /takes 512 numbers, but txt_in/,
    () => [x('txt_in.lora_A.weight', RANK, 512), x('txt_in.lora_B.weight', hidden, RANK)],
  ],
  [
    'a norm of another size',
    'FLUX_BAD_FILE',
    /has shape \[3\]/,
    () => [
      x('double_blocks.0.img_attn.norm.query_norm.scale', 3),
      x(`${layer}.lora_A.weight`, 2, hidden),
      x(`${layer}.lora_B.weight`, hidden, 2),
    ],
  ],
  ...[
    'dora_scale',
    'lora_magnitude_vector',
    'lora_magnitude_vector.weight',
    'lora_magnitude_vector.default.weight',
    'magnitude',
  ].map((name): [string, string, RegExp, () => TensorSource[]] => [
    `a DoRA, by ${name}`,
    'FLUX_UNSUPPORTED',
    new RegExp(`this is a DoRA \\(.*\\.${name.replaceAll('.', '\\.')}\\).*Use a LoRA, or merge it`),
    () => [
      x(`${layer}.${name}`, hidden),
      x(`${layer}.lora_A.weight`, 2, hidden),
      x(`${layer}.lora_B.weight`, hidden, 2),
    ],
  ]),
])('%s is refused: %s', async (_, code, message, sources) => {
  const path = await loraFile(join(folder, 'wrong.safetensors'), sources())
  await expect(flux.adapt([{ path }])).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message) as string,
  })
})

test('a part of a split model is refused', async () => {
  const path = await loraFile(join(folder, 'lora-00001-of-00001.safetensors'), [
    x(`${layer}.lora_A.weight`, RANK, hidden),
    x(`${layer}.lora_B.weight`, hidden, RANK),
  ])
  await expect(flux.adapt([{ path }])).rejects.toMatchObject({
    code: 'FLUX_UNSUPPORTED',
    message: expect.stringContaining('one file') as string,
  })
})

test('a wrong option is refused, and nothing is changed', async () => {
  for (const wrong of [
    { path: '' },
    { path: 'x', scale: NaN },
    { path: 'x', scale: 1e9 },
    { path: 'x', weight: 1 },
    'x',
    null,
  ]) {
    await expect(flux.adapt([wrong as never])).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  }
  await expect(flux.adapt('x' as never)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  await expect(flux.adapt([{ path: join(folder, 'none.safetensors') }])).rejects.toMatchObject({
    code: 'FLUX_NOT_FOUND',
  })
  await flux.adapt([])
  expect(await flux.predict(devCase('b'))).toEqual(plain)
})

test('none is taken while the network is at work, nor after its end', async () => {
  const running = flux.predict(devCase('b'))
  await expect(flux.adapt([])).rejects.toMatchObject({ code: 'FLUX_BUSY' })
  await running
  const closed = await FluxTransformer.load(official, onTestBackend)
  await closed.close()
  await expect(closed.adapt([])).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
})
