import { describe, expect, test } from 'vitest'
import { completeOptions, type GenerateOptions } from '../../../lib/pipeline/generate-options.js'
import { completeLoadOptions } from '../../../lib/pipeline/load-options.js'
import { flux1 } from '../../../lib/families/flux1/family.js'
import { fluxVariant } from '../../../lib/families/flux1/variants.js'
import type { ModelFile } from '../../../lib/formats/model-file.js'
import { FluxPipeline } from '../../../lib/pipeline/pipeline.js'

const dev = { guidanceEmbed: true, inChannels: 64, outChannels: 64 }
const schnell = { ...dev, guidanceEmbed: false }
const silent: ModelFile = { path: 'model.gguf', format: 'gguf', size: 0, metadata: new Map(), tensors: new Map() }
const complete = (options: object, model = dev) =>
  completeOptions(
    { prompt: 'a fox', ...options } as GenerateOptions,
    flux1,
    fluxVariant({ file: silent, config: model }),
  )

const badOption = (naming: RegExp) =>
  expect.objectContaining({ name: 'FluxError', code: 'FLUX_BAD_OPTION', message: expect.stringMatching(naming) })

const bare: object = Object.create(null)
/** values that are wrong for every option */
const WRONG = [null, NaN, -Infinity, {}, [], ['euler'], bare, Symbol('s'), () => 1, 10n, new Date()]
const NUMBERS = ['1', '', true, Infinity, -1, 1e300, { valueOf: () => 64 }]
const NAMES = ['', 'no such', 'Euler', 'toString', '__proto__', 0, 1, true]

const wrong: Record<Exclude<keyof GenerateOptions, 'preview'>, unknown[]> = {
  prompt: [...WRONG, 0, true, undefined, 'a'.repeat(32_769)],
  width: [...WRONG, ...NUMBERS, 0, 48, 63, 100, 1024.5, 4112],
  height: [...WRONG, ...NUMBERS, 0, 48, 63, 100, 1024.5, 4112],
  steps: [...WRONG, ...NUMBERS, 0, 1.5, 1001],
  guidance: [...WRONG, ...NUMBERS, 100.1],
  seed: [...WRONG, ...NUMBERS, 0.5, 2 ** 53],
  sampler: [...WRONG, ...NAMES],
  scheduler: [...WRONG, ...NAMES],
  sigmas: [
    ...WRONG,
    ...NUMBERS,
    0,
    1,
    false,
    '1',
    ['1', '0.5'],
    [1, 2],
    [1, 1],
    [2],
    [0],
    [1, NaN],
    [null],
    new Array(3),
    Array(2000).fill(0.5),
  ],
  shift: [...WRONG, 0, 1, '', 'true'],
  noise: [...WRONG, ...NAMES],
  maxSequenceLength: [...WRONG, ...NUMBERS, 0, 15, 513, 20.5],
  promptWeights: [...WRONG, 0, 1, '', 'true'],
  stepCache: [...WRONG, ...NUMBERS, 1.1],
  loras: [
    null,
    NaN,
    {},
    'x',
    ['euler'],
    [{}],
    [{ path: 5 }],
    [{ path: '' }],
    [{ path: 'x', scale: '1' }],
    [{ path: 'x', scale: 101 }],
    Array(65).fill({ path: 'x' }),
  ],
  onWarning: [null, NaN, {}, 'warn', true],
  signal: [...WRONG, 'abort', true, { aborted: false }],
  format: [...WRONG, ...NAMES, 'PNG', 'gif'],
  quality: [...WRONG, ...NUMBERS, 0, 101, 50.5],
  compression: [...WRONG, ...NUMBERS, 10, 2.5],
  negativePrompt: [...WRONG, 0, true, 'a'.repeat(32_769)],
  trueCfg: [...WRONG, ...NUMBERS, 0.5, 101, { scale: 2, start: 2 }, { scale: 2, zeroStar: 'x' }, { scal: 2 }],
  count: [...WRONG, ...NUMBERS, 0, 65, 1.5],
  variation: [
    ...WRONG,
    '1',
    5,
    true,
    { seed: 1 },
    { strength: 1 },
    { seed: -1, strength: 0.5 },
    { seed: 0.5, strength: 0.5 },
    { seed: 1, strength: 1.1 },
    { seed: 1, strength: '1' },
    { seed: 1, strength: 1, sead: 1 },
  ],
  hires: [
    ...WRONG.filter((value) => !(typeof value === 'object' && value && Object.keys(value).length === 0)),
    [],
    2,
    true,
    { scale: 0.5 },
    { scale: NaN },
    { scale: 5 },
    { scale: 2, width: 1024, height: 1024 },
    { width: 2048 },
    { width: 1024, height: 1000 },
    { width: 1008, height: 1024 },
    { width: 4112, height: 4096 },
    { strength: 0 },
    { strength: '1' },
    { steps: 0 },
    { steps: 1.5 },
    { upscale: 'lanczos' },
    { upscaler: '' },
    { upscaler: 4 },
    { upscaler: 'x4.safetensors', upscale: 'latent' },
    { times: 2 },
  ],
  image: [...WRONG, '', 5, true],
  strength: [...WRONG, ...NUMBERS, 1.1],
  mask: [...WRONG, '', 5, true],
  maskBlur: [...WRONG, ...NUMBERS, 257],
  maskGrow: [...WRONG, '1', true, Infinity, 1e300, 257, -257, 0.5],
  onlyMasked: [null, NaN, 'yes', 5, [], { padding: -1 }, { pad: 1 }],
  extend: [...WRONG, 5, true, '', { left: -1 }, { up: 1 }],
  convention: [...WRONG, ...NAMES],
  controlImage: [...WRONG, '', 5, true],
  referenceImages: [null, NaN, {}, 'x', 5, [null], [''], [5], Array(9).fill('x.png')],
  referencePlacement: [...WRONG, ...NAMES],
  controlNets: [
    null,
    NaN,
    {},
    'x',
    [null],
    [{}],
    [{ path: 'x' }],
    [{ path: '', image: 'x' }],
    [{ path: 'x', image: 5 }],
  ],
  redux: [
    null,
    NaN,
    {},
    'x',
    [null],
    [{}],
    [{ image: 5 }],
    [{ image: 'x', strength: 11 }],
    [{ image: 'x', strengthType: 'x' }],
  ],
  ipAdapters: [null, NaN, {}, 'x', [null], [{}], [{ path: 'x' }], [{ path: 'x', image: 'x', scale: NaN }]],
  resize: [...WRONG, ...NAMES],
}

describe('wrong values are refused with FLUX_BAD_OPTION, naming the option', () => {
  const cases = Object.entries(wrong).flatMap(([name, values]) =>
    values.map((value): [string, unknown] => [name, value]),
  )
  test.each(cases)('%s: %o', (name, value) => {
    const others = name === 'quality' ? { format: 'jpeg' } : {}
    expect(() => complete({ ...others, [name]: value })).toThrow(
      badOption(new RegExp(`^${name}\\b|^there is no \\w+ in ${name};`)),
    )
  })

  const previews: [unknown, RegExp][] = [
    ...[null, NaN, [], ['linear'], Symbol('s'), () => 1, 10n, '', 0, true].map((value): [unknown, RegExp] => [
      value,
      /^preview is/,
    ]),
    ...[...NUMBERS, 0, 1.5, null].map((every): [unknown, RegExp] => [{ every }, /^preview\.every is/]),
    ...[...NAMES, null, ['linear']].map((method): [unknown, RegExp] => [{ method }, /^preview\.method is/]),
    [{ each: 1 }, /there is no each in preview; there are every, method/],
  ]
  test.each(previews)('preview: %o', (preview, naming) => {
    expect(() => complete({ preview })).toThrow(badOption(naming))
  })

  test('names that there are not', () => {
    expect(() => complete({ step: 4 })).toThrow(
      badOption(/there is no step in the options; there are prompt, width, height, steps,/),
    )
    expect(() => complete({ negativeprompt: 'x' })).toThrow(badOption(/there is no negativeprompt/))
  })

  test.each([null, undefined, 'a fox', 7, ['a fox'], () => 1])('no options at all: %o', (options) => {
    expect(() => completeOptions(options as never, flux1, fluxVariant({ file: silent, config: dev }))).toThrow(
      badOption(/^the options is .*: give an object with prompt,/),
    )
  })

  test('what fits another format', () => {
    expect(() => complete({ quality: 90 })).toThrow(badOption(/^quality is 90, but the format png has no quality/))
    expect(() => complete({ format: 'webp', compression: 3 })).toThrow(
      badOption(/^compression is 3, but the format webp/),
    )
  })

  test('a weight out of range, only where weights are read', () => {
    const prompt = 'a (red:1e3) fox'
    expect(() => complete({ prompt, promptWeights: true })).toThrow(badOption(/^prompt gives "red" the weight 1000/))
    expect(complete({ prompt })).toMatchObject({ prompt, promptWeights: false })
  })

  test('a strength next to noise levels that say the same', () => {
    const image = 'fox.png'
    expect(() => complete({ image, sigmas: [0.5, 0.2], strength: 0.5 })).toThrow(
      badOption(/^strength is given next to/),
    )
    expect(complete({ image, sigmas: [0.5, 0.2] }).sigmas).toEqual([0.5, 0.2, 0])
  })

  test.each([{}, { scale: 0.5 }, { scale: '2' }])('true CFG by options, %o', (trueCfg) => {
    expect(() => complete({ trueCfg })).toThrow(badOption(/^trueCfg\.scale is/))
  })

  const pixels = { data: new Uint8Array(64 * 64 * 3), width: 64, height: 64 }
  const redux = [{ image: pixels }]
  const controlNets = [{ path: 'net', image: pixels }]
  const controlImage = { controlImage: pixels, loras: [{ path: 'lora' }] }
  const mask = { image: pixels, mask: pixels }

  // an option, a value that is not the usual one, what it acts on, and what it does not act on
  test.each<[string, unknown, unknown, object[], object[]]>([
    ['convention', 'diffusers', 'comfyui', [{ image: pixels }, { hires: {} }], [{}, { redux }, { controlNets }]],
    ['resize', 'cover', 'contain', [{ image: pixels }, controlImage, { controlNets }], [{}, { redux }]],
    ['referencePlacement', 'offset', 'index', [{ referenceImages: [pixels] }], [{}, { referenceImages: [] }, mask]],
    ['maskBlur', 0, 4, [mask, { image: pixels, extend: { left: 16 } }], [{}, { image: pixels }]],
    ['maskGrow', 0, 4, [mask], [{}, { image: pixels }]],
  ])('%s without what it acts on, unless it is %o', (name, usual, value, acting, others) => {
    for (const options of [...acting, ...others]) expect(() => complete({ ...options, [name]: usual })).not.toThrow()
    for (const options of acting) expect(() => complete({ ...options, [name]: value })).not.toThrow()
    for (const options of others)
      expect(() => complete({ ...options, [name]: value })).toThrow(badOption(new RegExp(`^${name} is .*leave it out`)))
  })

  test.each([
    [{ start: 7 }, /^trueCfg\.start is 7: give a number from 0 to 1$/],
    [{ zeroStar: 'x' }, /^trueCfg\.zeroStar is 'x'/],
    [{ start: 0.2 }, /^trueCfg\.start is 0\.2: give a trueCfg\.scale above 1 as well/],
    [{ end: 0.5 }, /^trueCfg\.end is 0\.5: give a trueCfg\.scale above 1/],
    [{ zeroStar: 'diffusers' }, /^trueCfg\.zeroStar is 'diffusers': give a trueCfg\.scale above 1/],
    [{ zeroInitSteps: 2 }, /^trueCfg\.zeroInitSteps is 2: give a trueCfg\.scale above 1/],
  ])('options of guidance that is off: %o', (options, naming) => {
    expect(() => complete({ trueCfg: { scale: 1, ...options } })).toThrow(badOption(naming))
    const usual = { scale: 1, start: 0, end: 1, zeroStar: undefined, zeroInitSteps: 0 }
    expect(complete({ trueCfg: usual }).trueCfg).toBeUndefined()
  })

  test('guidance for a model without', () => {
    expect(() => complete({ guidance: 3.5 }, schnell)).toThrow(
      badOption(/^guidance is 3.5, but this model .*schnell.*leave it out/),
    )
    expect(complete({}, schnell).guidance).toBeUndefined()
  })

  test('the message tells the nearest size', () => {
    expect(() => complete({ width: 1000 })).toThrow(
      'width is 1000: give a multiple of 16 from 64 to 4096; 1008 is nearest',
    )
    expect(() => complete({ height: 9999 })).toThrow(/4096 is nearest/)
  })
})

describe('defaults', () => {
  test('of dev and schnell, as documented', () => {
    expect(complete({ seed: 1 })).toMatchObject({
      width: 1024,
      height: 1024,
      guidance: 3.5,
      seed: 1,
      sampler: 'euler',
      scheduler: 'official',
      noise: 'float32',
      maxSequenceLength: 512,
      stepCache: 0,
      preview: undefined,
      encode: {},
      signal: undefined,
    })
    expect(complete({}).sigmas).toHaveLength(29)
    expect(complete({}, schnell).sigmas).toEqual([1, 0.75, 0.5, 0.25, 0])
    expect(complete({}, schnell).maxSequenceLength).toBe(256)
    expect(complete({ preview: {} }).preview).toEqual({ every: 1, method: 'linear' })
  })

  test('undefined is as if not given', () => {
    const names = Object.keys(wrong).filter((name) => name !== 'prompt' && name !== 'seed')
    const undefinedOnes = Object.fromEntries([...names, 'preview'].map((name) => [name, undefined]))
    expect(complete({ seed: 1, ...undefinedOnes })).toEqual(complete({ seed: 1 }))
  })

  test('limits are included', () => {
    const limits = {
      width: 64,
      height: 4096,
      guidance: 100,
      seed: 2 ** 53 - 1,
      maxSequenceLength: 16,
      prompt: 'a'.repeat(32_768),
    }
    expect(complete({ ...limits, steps: 1000 })).toMatchObject(limits)
    expect(complete({ steps: 1, guidance: 0, seed: 0, prompt: '' })).toMatchObject({
      prompt: '',
      sigmas: [1, 0],
      guidance: 0,
      seed: 0,
    })
  })

  test('drawn seeds are whole numbers and differ', () => {
    const seeds = Array.from({ length: 20 }, () => complete({}).seed)
    expect(seeds.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)).toBe(true)
    expect(new Set(seeds).size).toBeGreaterThan(15)
  })

  test('sigmas take the place of steps, scheduler and shift', () => {
    expect(complete({ sigmas: [1, 0.5], steps: 7, shift: false })).toMatchObject({
      sigmas: [1, 0.5, 0],
      scheduler: 'custom',
    })
  })
})

describe('hires', () => {
  const levels = (options: object) => {
    const { width, height, sigmas } = complete(options).hires!
    return { width, height, sigmas: sigmas.map((sigma) => Number(sigma.toFixed(6))) }
  }
  const small = { width: 256, height: 512, scheduler: 'simple', steps: 4 }

  test('the second pass has the levels of its size, from its strength on', () => {
    // simple, 4 steps at 1024 x 1024: [1, 0.904531, 0.759511, 0.512844, 0]
    const square = { ...small, width: 512 }
    expect(levels({ ...square, hires: {} })).toEqual({ width: 1024, height: 1024, sigmas: [0.759511, 0.512844, 0] })
    expect(levels({ ...square, hires: { strength: 0.2 } }).sigmas).toEqual([0.512844, 0])
    const comfyui = { ...square, convention: 'comfyui' }
    expect(levels({ ...comfyui, hires: { strength: 0.6 } }).sigmas).toEqual([0.863338, 0.759511, 0.612339, 0.387176, 0])
    expect(levels({ ...square, sigmas: [1, 0.5], hires: { strength: 1 } }).sigmas).toHaveLength(3)
    expect(complete({ ...square, hires: {} }).sigmas[1]).toBeCloseTo(0.849235, 5)
  })

  test('a network enlarges images', () => {
    const hires = { upscaler: 'x4.safetensors' }
    expect(complete({ ...small, hires }).hires).toMatchObject({ ...hires, upscale: 'image' })
    expect(() => complete({ ...small, hires: { ...hires, upscale: 'latent' } })).toThrow(
      badOption(/^hires\.upscaler is given, but hires\.upscale is 'latent'.*take 'image'/),
    )
  })

  test('sides are rounded to multiples of 16', () => {
    expect(levels({ ...small, hires: { scale: 1.3 } })).toMatchObject({ width: 336, height: 672 })
    expect(levels({ ...small, hires: { width: 256, height: 4096 } })).toMatchObject({ width: 256, height: 4096 })
  })
})

describe('samplers, schedulers and the shift', () => {
  const close = (options: object, expected: number[], model = dev) => {
    const { sigmas } = complete(options, model)
    expect(sigmas).toHaveLength(expected.length)
    expected.forEach((sigma, i) => expect(sigmas[i]).toBeCloseTo(sigma, 5))
  }
  const simple = { width: 512, height: 512, steps: 4, scheduler: 'simple' }

  test("the shift 'comfyui' is the same at every size, and none for schnell", () => {
    close(simple, [1, 0.849235, 0.652489, 0.384945, 0])
    close({ ...simple, shift: 'comfyui' }, [1, 0.904531, 0.759511, 0.512844, 0])
    for (const shift of [undefined, false, 'comfyui']) close({ ...simple, shift }, [1, 0.75, 0.5, 0.25, 0], schnell)
  })

  test.each(['dpm_2', 'uni_pc', 'uni_pc_bh2'])('%s takes the levels of one step more', (sampler) => {
    close({ ...simple, sampler, shift: 'comfyui' }, [1, 0.926647, 0.825702, 0.677987, 0])
    close({ sampler, steps: 1 }, [1, 0])
    expect(complete({ sampler, sigmas: [1, 0.5, 0.2] }).sigmas).toEqual([1, 0.5, 0.2, 0])
  })

  test.each(['euler_ancestral', 'dpmpp_2m_sde', 'dpmpp_sde', 'lcm', 'er_sde'])('%s allows no step cache', (sampler) => {
    expect(() => complete({ sampler, stepCache: 0.1 })).toThrow(
      badOption(new RegExp(`^stepCache is 0.1, but sampler '${sampler}' adds noise`)),
    )
    expect(complete({ sampler, stepCache: 0 })).toMatchObject({ sampler })
  })
})

describe('the options of load', () => {
  const files = { transformer: 'a', t5: 'b', clip: 'c', vae: 'd' }
  const wrongOfLoad: [string, unknown[]][] = [
    ['textEncoders', [...WRONG, ...NAMES]],
    ['threads', [...WRONG, ...NUMBERS, 0, 1.5, 513]],
    ['backend', [...WRONG, 0, true]],
    ['signal', [...WRONG, 'abort', { aborted: false }]],
    ['onProgress', [...WRONG.filter((value) => typeof value !== 'function'), 'f', 1]],
  ]
  const cases = wrongOfLoad.flatMap(([name, values]) => values.map((value): [string, unknown] => [name, value]))

  test.each(cases)('%s: %o', async (name, value) => {
    const naming = badOption(new RegExp(`^${name} is`))
    await expect(FluxPipeline.load('nowhere', { [name]: value })).rejects.toThrow(naming)
    await expect(FluxPipeline.load({ ...files, [name]: value })).rejects.toThrow(naming)
  })

  test.each([null, 5, 'x', []])('as a whole: %o', async (options) => {
    await expect(FluxPipeline.load('nowhere', options as never)).rejects.toThrow(badOption(/^the options of load is/))
  })

  test('names that there are not', async () => {
    await expect(FluxPipeline.load('nowhere', { gpu: true } as never)).rejects.toThrow(
      badOption(/there is no gpu in the options of load/),
    )
    await expect(FluxPipeline.load({ ...files, loras: [] } as never)).rejects.toThrow(
      badOption(/there is no loras in the model/),
    )
  })

  test.each([null, undefined, 5, true, []])('a model that is none: %o', async (model) => {
    await expect(FluxPipeline.load(model as never)).rejects.toThrow(badOption(/^the model is/))
  })

  const paths = ['transformer', 't5', 'clip', 'vae'].flatMap((part) =>
    [undefined, null, '', 5, {}].map((value) => [part, value]),
  )
  test.each(paths)('%s: %o', async (part, value) => {
    const naming = badOption(new RegExp(`^${part} is .* the path of its file`))
    await expect(FluxPipeline.load({ ...files, [part as string]: value })).rejects.toThrow(naming)
  })

  test.each([null, 5, 'folder', { t6: 'x' }, { t5: 5 }, { clip: '' }])('tokenizers: %o', async (tokenizers) => {
    await expect(FluxPipeline.load({ ...files, tokenizers } as never)).rejects.toThrow(badOption(/tokenizers/))
  })

  test('what is given beside the files and what is given after them', () => {
    const both = completeLoadOptions(
      { ...files, threads: 2, backend: 'cpu' },
      { threads: 3, backend: undefined as never },
    )
    expect(both).toEqual({ model: files, threads: 3, backend: 'cpu' })
    expect(completeLoadOptions('tiny', {})).toEqual({ model: 'tiny' })
  })
})
