import { expect, test } from 'vitest'
import { flux1 } from '../../../lib/families/flux1/family.js'
import type { Variant } from '../../../lib/families/family.js'
import { fluxVariant } from '../../../lib/families/flux1/variants.js'
import type { ModelFile } from '../../../lib/formats/model-file.js'
import { parseParameters } from '../../../lib/images/infotext.js'
import { restoreOptions } from '../../../lib/images/restore-options.js'
import { completeOptions, type GenerateOptions, type Settings } from '../../../lib/pipeline/generate-options.js'
import type { CompleteModel } from '../../../lib/pipeline/open-model.js'
import { parametersOf } from '../../../lib/pipeline/parameters.js'
import { SAMPLER_TRAITS, SAMPLERS, type SamplerName } from '../../../lib/sampling/samplers.js'
import { SCHEDULERS, SHIFTS } from '../../../lib/sampling/schedule.js'

const silent: ModelFile = { path: 'dev.gguf', format: 'gguf', size: 0, metadata: new Map(), tensors: new Map() }
const variantOf = (guidanceEmbed: boolean) =>
  fluxVariant({ file: silent, config: { guidanceEmbed, inChannels: 64, outChannels: 64 } })
const dev = variantOf(true)
const image = { data: new Uint8Array(64 * 64 * 3), width: 64, height: 64 }

const complete = (options: GenerateOptions, variant = dev) => completeOptions(options, flux1, variant)
const model = (variant: Variant) =>
  ({
    family: flux1,
    networks: { transformer: { file: { path: '/models/flux1-dev.gguf' } } },
    variant,
  }) as unknown as CompleteModel
const textOf = (settings: Settings, variant = dev) => parametersOf(settings, model(variant))
const restored = (text: string) => restoreOptions(parseParameters(text))

let state = 1
const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32
const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
const whole = (least: number, most: number) => least + Math.floor(random() * (most - least + 1))
/** the option in half of the cases */
const perhaps = <T extends object>(option: () => T): Partial<T> => (random() < 0.5 ? option() : {})

const convention = () => ({ convention: pick(['diffusers', 'comfyui'] as const) })

function randomOptions(): GenerateOptions {
  const sampler = pick(Object.keys(SAMPLERS)) as SamplerName
  const start = random() / 2
  return {
    prompt: pick(['a fox', '一只狐狸, "quoted": (red:1.3) fox\nin two lines', 'Steps: 3, one: 2', '']),
    seed: whole(0, 2 ** 40),
    sampler,
    ...perhaps(() => ({ steps: whole(2, 60) })),
    ...perhaps(() => ({ width: 16 * whole(4, 64), height: 16 * whole(4, 64) })),
    ...perhaps(() => ({ scheduler: pick(Object.keys(SCHEDULERS)) as keyof typeof SCHEDULERS })),
    ...perhaps(() => ({ shift: pick(SHIFTS) })),
    ...perhaps(() => ({ noise: pick(['float32', 'bfloat16'] as const) })),
    ...perhaps(() => ({ maxSequenceLength: whole(16, 512) })),
    ...perhaps(() => ({ promptWeights: true })),
    ...perhaps(() => ({ stepCache: SAMPLER_TRAITS[sampler].addsNoise ? 0 : random() })),
    ...perhaps(() => ({ variation: { seed: whole(0, 99), strength: random() } })),
    ...perhaps(() => ({ negativePrompt: 'blurry\nlow: quality', trueCfg: 1.5 + random() })),
    ...perhaps(() => ({
      negativePrompt: 'ugly',
      trueCfg: {
        scale: 2,
        start,
        ...perhaps(() => ({ end: start + 0.5 })),
        ...perhaps(() => ({ zeroInitSteps: whole(0, 2) })),
      },
    })),
    ...perhaps(() => ({ trueCfg: { scale: 3, zeroStar: pick(['diffusers', 'comfyui'] as const) } })),
    ...pick([
      {},
      { image, ...perhaps(convention), ...perhaps(() => ({ strength: 0.5 + random() / 2 })) },
      {
        ...perhaps(convention),
        hires: pick([
          {},
          { scale: 1.5 },
          { width: 2048, height: 1024, upscale: 'image' as const },
          { strength: 0.7, steps: 9 },
        ]),
      },
    ]),
  }
}

test('a request with the options that its text gives is the same request', () => {
  for (let i = 0; i < 400; i++) {
    const options = randomOptions()
    for (const variant of [dev, variantOf(false)]) {
      const settings = complete(options, variant)
      const text = textOf(settings, variant)
      const { options: found, unmapped } = restored(text)
      const again = complete({ ...(options.image ? { image } : {}), ...found } as GenerateOptions, variant)
      const comparable = ({ hires, convention, images, ...rest }: Settings) => [rest, hires && { ...hires, given: {} }]
      expect(comparable(again), text).toEqual(comparable(settings))
      expect([again.images?.strength, again.images?.convention]).toEqual([
        settings.images?.strength,
        settings.images?.convention,
      ])
      expect(unmapped).toEqual({ Model: 'flux1-dev' })
      expect(textOf(again, variant)).toBe(text)
    }
  }
})

test('defaults leave no fields', () => {
  expect(textOf(complete({ prompt: 'a fox', seed: 1, width: 64, height: 80 }))).toMatch(
    /^a fox\nSteps: 28, Sampler: Euler, Schedule type: Official, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, Size: 64x80, Model: flux1-dev, Version: ggflux [^,]*$/,
  )
})

test('a strength leaves the steps that were asked for', () => {
  const text = textOf(complete({ prompt: 'a fox', image, steps: 8, strength: 0.3 }))
  expect(text).toMatch(/\nSteps: 8, .*, Denoising strength: 0.3, /)
  expect(restored(text).options).toMatchObject({ steps: 8, strength: 0.3 })
})

test("LoRAs, ControlNets and IP-Adapters by name, in A1111's form", () => {
  const controlNets = [
    { path: '/nets/canny.safetensors', image },
    { path: 'hf:owner/name:folder/union, v2.gguf', image, mode: 'pose', scale: 0.5, start: 0.1, end: 0.8 },
  ]
  const ipAdapters = [{ path: 'ip.safetensors', image }]
  const loras = [{ path: '/l/oil paint.safetensors', scale: 0.5 }]
  const text = textOf(complete({ prompt: 'a fox', controlNets, ipAdapters, loras }))
  expect(text).toContain(
    'LoRA: oil paint 0.5, ' +
      'ControlNet 0: "Module: None, Model: canny, Weight: 0.7, Guidance Start: 0, Guidance End: 1", ' +
      'ControlNet 1: "Module: None, Model: union, v2, Weight: 0.5, Guidance Start: 0.1, Guidance End: 0.8, Union Mode: pose", ' +
      'IP-Adapter 0: "Model: ip, Weight: 0.6", ',
  )
  expect(parseParameters(text).loras).toEqual([{ name: 'oil paint', scale: 0.5 }])
  expect(restored(text).unmapped).toMatchObject({
    'ControlNet 0': 'Module: None, Model: canny, Weight: 0.7, Guidance Start: 0, Guidance End: 1',
  })
})
