import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { T5Encoder } from '../../lib/nn.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { goldenValues } from '../support/golden.js'
import { collect, loadTiny, SMALL, streamed } from '../support/tiny.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-pipeline-loras-'))
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny({ textEncoders: 'keep' })
})
afterEach(() => vi.restoreAllMocks())
afterAll(async () => {
  await pipe?.close()
  rmSync(folder, { recursive: true })
})

const TRANSFORMER = 'lora_unet_double_blocks_0_img_attn_proj'
const NOWHERE = 'lora_unet_double_blocks_99_img_attn_proj'

/** A LoRA of rank 4 for layers of `width` by `width` numbers. */
async function lora(
  name: string,
  layers: readonly string[],
  seed: number,
  { change = (_: Float32Array) => {}, width = pipe.config.hiddenSize } = {},
): Promise<string> {
  const path = join(folder, name)
  const tensor = (name: string, shape: number[], seed: number) => {
    const data = new Float32Array(4 * width)
    goldenValues(data, { seed, mean: 0, scale: 0.3 })
    change(data)
    return { name, shape, type: 'F32' as const, data: new Uint8Array(data.buffer) }
  }
  await writeModelFile(
    path,
    layers.flatMap((layer, i) => [
      tensor(`${layer}.lora_down.weight`, [4, width], seed + 2 * i),
      tensor(`${layer}.lora_up.weight`, [width, 4], seed + 2 * i + 1),
    ]),
  )
  return path
}

const drawn = async (path: string) => (await streamed(pipe, { ...SMALL, loras: [{ path }] })).image

test.each(['written over', 'renamed over'])('a LoRA whose file is %s acts as it is now', async (how) => {
  const [first, second] = [
    await lora('first.safetensors', [TRANSFORMER], 1),
    await lora('second.safetensors', [TRANSFORMER], 5),
  ]
  const [one, two] = [await drawn(first), await drawn(second)]
  expect(one.equals(two)).toBe(false)
  const live = join(folder, 'live.safetensors')
  writeFileSync(live, readFileSync(first))
  expect((await drawn(live)).equals(one)).toBe(true)
  if (how === 'written over') writeFileSync(live, readFileSync(second))
  else renameSync(second, live)
  expect((await drawn(live)).equals(two)).toBe(true)
  rmSync(live)
  await expect(drawn(live)).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
})

test('so do those of the text encoders; a prompt beside LoRAs of the transformer alone stays encoded', async () => {
  const encoder = 'lora_te1_text_model_encoder_layers_0_self_attn_q_proj'
  const clip = { width: pipe.config.vecInDim }
  const encode = vi.spyOn(T5Encoder.prototype, 'encode')
  const path = await lora('text.safetensors', [encoder], 1, clip)
  const first = await drawn(path)
  await drawn(path)
  expect(encode).toHaveBeenCalledTimes(1)
  await lora('text.safetensors', [encoder], 9, clip)
  expect((await drawn(path)).equals(first)).toBe(false)
  expect(encode).toHaveBeenCalledTimes(2)
  await drawn(await lora('other.safetensors', [TRANSFORMER], 1))
  await drawn(await lora('other.safetensors', [TRANSFORMER], 3))
  expect(encode.mock.calls.length).toBeLessThanOrEqual(3)
})

test('what does nothing is told in every call, by generate() to onWarning', async () => {
  const path = await lora('partly.safetensors', [TRANSFORMER, NOWHERE], 1)
  const warned: string[] = []
  const options = { ...SMALL, loras: [{ path }], onWarning: (message: string) => warned.push(message) }
  await pipe.generate(options)
  await pipe.generate(options)
  const events = await collect(pipe.stream({ ...SMALL, loras: [{ path }] }))
  const told = expect.stringMatching(/partly\.safetensors: 2 tensors, .*layers?.* will do nothing/) as string
  expect(warned).toEqual([told, told])
  expect(events.filter(({ type }) => type === 'warning')).toEqual([{ type: 'warning', message: told }])
  await expect(
    pipe.generate({
      ...options,
      onWarning: () => {
        throw new Error('mine')
      },
    }),
  ).rejects.toThrow('mine')
})

test('NaN in a LoRA is an error that names it and the transformer, at the first step; without it the picture is as before', async () => {
  const expected = await pipe.generate(SMALL)
  const path = await lora('diverged.safetensors', [TRANSFORMER], 1, { change: (data) => (data[5] = NaN) })
  const steps: number[] = []
  const read = async () => {
    for await (const event of pipe.stream({ ...SMALL, steps: 3, loras: [{ path }] }))
      if (event.type === 'step') steps.push(event.step)
  }
  const message = expect.stringMatching(
    /transformer\.gguf: the transformer's prediction .* has NaN; .*diverged\.safetensors/,
  ) as string
  await expect(read()).rejects.toMatchObject({ code: 'FLUX_BAD_FILE', message })
  expect(steps).toEqual([])
  expect((await pipe.generate(SMALL)).equals(expected)).toBe(true)
})
