import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { openModelFile } from '../../lib/formats/open.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { T5Encoder, type LoraOptions } from '../../lib/nn.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { collect } from '../support/async.js'
import { loraFile, numbers, RANK, tensorSource } from '../support/lora.js'
import { temporaryFolder } from '../support/temporary.js'
import { loadTiny, SMALL, streamed } from '../support/tiny.js'

const folder = temporaryFolder()
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny({ textEncoders: 'keep' })
})
afterEach(() => vi.restoreAllMocks())
afterAll(() => pipe?.close())

const TRANSFORMER = 'lora_unet_double_blocks_0_img_attn_proj'
const NOWHERE = 'lora_unet_double_blocks_99_img_attn_proj'

/** A LoRA for layers of `width` by `width` numbers. */
function lora(
  name: string,
  layers: readonly string[],
  seed: number,
  { change = (_: Float32Array) => {}, width = pipe.config.hiddenSize } = {},
): Promise<string> {
  const tensor = (name: string, shape: number[], seed: number) => {
    const values = numbers(shape, seed, 0.3)
    change(values.data as Float32Array)
    return tensorSource(name, values)
  }
  const sources = layers.flatMap((layer, i) => [
    tensor(`${layer}.lora_down.weight`, [RANK, width], seed + 2 * i),
    tensor(`${layer}.lora_up.weight`, [width, RANK], seed + 2 * i + 1),
  ])
  return loraFile(join(folder, name), sources)
}

const drawn = async (path: string) => (await streamed(pipe, { ...SMALL, loras: [{ path }] })).image

test('another picture, the same again without, and a warning for what does nothing', async () => {
  const { hiddenSize } = pipe.config
  const layer = 'lora_unet_double_blocks_1_img_mlp_2'
  const path = await loraFile(join(folder, 'tiny.safetensors'), [
    tensorSource(`${layer}.lora_down.weight`, numbers([RANK, 4 * hiddenSize], 1)),
    tensorSource(`${layer}.lora_up.weight`, numbers([hiddenSize, RANK], 2)),
    tensorSource('lora_te1_text_model_encoder_layers_99_mlp_fc1.lora_down.weight', numbers([RANK, 64], 3)),
  ])
  const picture = async (loras?: LoraOptions[]) => {
    const events = await collect(pipe.stream({ ...SMALL, ...(loras ? { loras } : {}) }))
    const image = events.at(-1)!
    if (image.type !== 'image') throw new Error('the last event is the picture')
    return {
      bytes: image.image,
      parameters: image.parameters,
      warnings: events.filter(({ type }) => type === 'warning'),
    }
  }
  const [without, withIt, again, off] = [
    await picture(),
    await picture([{ path, scale: 2 }]),
    await picture([{ path, scale: 2 }]),
    await picture([{ path, scale: 0 }]),
  ]
  expect(without.warnings).toEqual([])
  expect(withIt.bytes.equals(without.bytes)).toBe(false)
  expect(again.bytes.equals(withIt.bytes)).toBe(true)
  expect(off.bytes.equals(without.bytes)).toBe(true)
  expect(withIt.warnings).toEqual([
    { type: 'warning', message: expect.stringMatching(/tensor lora_te1_.* belongs to no layer/) as string },
  ])
  expect(again.warnings).toEqual(withIt.warnings)
  expect(withIt.parameters).toContain('LoRA: tiny 2')
  expect((await picture()).bytes.equals(without.bytes)).toBe(true)
  await expect(pipe.generate({ ...SMALL, loras: [{ path: join(folder, 'none') }] })).rejects.toMatchObject({
    code: 'FLUX_NOT_FOUND',
  })
  const control = await loraFile(join(folder, 'tiny-control.safetensors'), [
    tensorSource('img_in.lora_A.weight', numbers([RANK, 2 * pipe.config.inChannels], 1)),
    tensorSource('img_in.lora_B.weight', numbers([hiddenSize, RANK], 2)),
  ])
  const needs = expect.stringMatching(/this LoRA reads a control image .*; give controlImage/) as string
  await expect(pipe.generate({ ...SMALL, loras: [{ path: control }] })).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: needs,
  })
  const { width, height } = SMALL
  const gray = { data: new Uint8Array(3 * width * height).fill(128), width, height }
  const drawn = await pipe.generate({ ...SMALL, loras: [{ path: control }], controlImage: gray })
  expect(drawn.equals(without.bytes)).toBe(false)
  expect((await picture()).bytes.equals(without.bytes)).toBe(true)
})

test('a LoRA of CLIP changes only the pictures that ask for it', async () => {
  await using pipe = await loadTiny({ textEncoders: 'release' })
  const layer = 'text_model.encoder.layers.0.mlp.fc2'
  const [rows, columns] = (await openModelFile(tinyModelFiles().clip)).tensors.get(`${layer}.weight`)!.shape
  const path = await loraFile(join(folder, 'tiny-clip.safetensors'), [
    tensorSource(`lora_te1_${layer.replaceAll('.', '_')}.lora_down.weight`, numbers([RANK, columns!], 300)),
    tensorSource(`lora_te1_${layer.replaceAll('.', '_')}.lora_up.weight`, numbers([rows!, RANK], 400, 4e-3)),
  ])
  const picture = (loras?: LoraOptions[]) => pipe.generate({ ...SMALL, ...(loras ? { loras } : {}) })
  const [without, withIt, again] = [await picture(), await picture([{ path }]), await picture()]
  expect(withIt.equals(without)).toBe(false)
  expect(again.equals(without)).toBe(true)
})

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
