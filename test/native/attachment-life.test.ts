import { copyFileSync, mkdtempSync, rmSync, truncateSync, utimesSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { convert } from '../../lib/index.js'
import { nativeAddon } from '../../lib/native/addon.js'
import { CONTROLNET } from '../../lib/networks/controlnet/definition.js'
import { FLUX } from '../../lib/networks/flux/definition.js'
import { IP_ADAPTER } from '../../lib/networks/ip-adapter/definition.js'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { networkDefinition } from '../../lib/networks/registry.js'
import { describeControlNet, FluxTransformer, type ControlInput, type FluxAttachment } from '../../lib/nn.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { anyInput } from '../support/any-input.mjs'
import { onTestBackend } from '../support/backend.js'
import { goldenWeights } from '../support/golden.js'
import { relL2 } from '../support/safetensors.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-attachments-'))
const [transformer, union, plain, xlabs, ip] = await Promise.all(
  (
    [
      'flux-dev33-tiny',
      'controlnet-union-tiny',
      'controlnet-tiny',
      'controlnet-xlabs-tiny',
      'ip-adapter-v2-tiny',
    ] as const
  ).map(goldenWeights) as [Promise<string>, Promise<string>, Promise<string>, Promise<string>, Promise<string>],
)
const flux = await FluxTransformer.load(transformer, onTestBackend)
afterAll(async () => {
  await flux.close()
  rmSync(folder, { recursive: true })
})

const net = (path: string): FluxAttachment => ({ kind: 'controlnet', path })
const adapter = (path: string): FluxAttachment => ({ kind: 'ip-adapter', path })
const wave = (length: number, step: number) => Float32Array.from({ length }, (_, i) => Math.sin(step * i))

const SIDE = 8
const TOKENS = SIDE ** 2
const input = anyInput(flux, SIDE, 40)
const latents = wave(TOKENS * 64, 0.9)
const unionInput: ControlInput = { attachment: 0, image: latents, mode: 'depth', scale: 0.7 }
const xlabsInput: ControlInput = {
  attachment: 2,
  image: wave(3 * 128 * 128, 0.01),
  height: 16 * SIDE,
  width: 16 * SIDE,
}
const prompt = { attachment: 3, embeds: wave(48, 0.4), scale: 0.6 }
const ALL = [net(union), net(plain), net(xlabs), adapter(ip)]
const bytesOf = async (attachments: FluxAttachment[]) =>
  (await Promise.all(attachments.map(({ kind, path }) => openNetworkFile(kind, path)))).reduce(
    (sum, { bytes }) => sum + bytes,
    0,
  )
const held = () => flux.memory().weights + flux.memory().mapped

describe('attach', () => {
  beforeEach(() => flux.attach([]))

  test('weights are counted, kept, replaced and freed', async () => {
    const own = held()
    const before = await flux.predict(input)
    await flux.attach([net(union), net(plain)])
    expect(held() - own).toBeGreaterThanOrEqual(await bytesOf([net(union), net(plain)]))
    const controlled = await flux.predict({ ...input, controls: [unionInput] })
    expect(relL2(controlled, before)).toBeGreaterThan(0.01)

    // in another order, with one gone and another new: the first is still the same
    await flux.attach([net(xlabs), net(union)])
    expect(await flux.predict({ ...input, controls: [{ ...unionInput, attachment: 1 }] })).toEqual(controlled)
    await flux.attach([])
    expect(held()).toBe(own)
    expect(await flux.predict(input)).toEqual(before)
  })

  test('a second image and another scale use the same weights, and the same graph', async () => {
    await flux.attach([net(union)])
    const one = await flux.predict({ ...input, controls: [unionInput] })
    const { compute } = flux.memory()
    const others = [{ scale: 0.3 }, { mode: 0 }, { image: latents.map((value) => -value) }]
    for (const change of others)
      expect(relL2(await flux.predict({ ...input, controls: [{ ...unionInput, ...change }] }), one)).toBeGreaterThan(
        1e-4,
      )
    expect(await flux.predict({ ...input, controls: [unionInput] })).toEqual(one)
    expect(flux.memory().compute).toBe(compute)
  })

  test('what is kept is not read again, unless its file has changed', async () => {
    const copy = join(folder, 'copy.safetensors')
    copyFileSync(union, copy)
    await flux.attach([net(copy)])
    const one = await flux.predict({ ...input, controls: [unionInput] })
    utimesSync(copy, 1, 1)
    if (flux.memory().mapped > 0)
      await expect(flux.predict({ ...input, controls: [unionInput] })).rejects.toThrow(/copy\.safetensors was changed/)
    await flux.attach([net(copy)])
    expect(await flux.predict({ ...input, controls: [unionInput] })).toEqual(one)
  })

  test('names, numbers and modes of a union; auto sends none', async () => {
    await flux.attach([net(union)])
    const withMode = (mode?: ControlInput['mode']) => flux.predict({ ...input, controls: [{ ...unionInput, mode }] })
    const names = ['canny', 'tile', 'depth', 'blur', 'pose', 'gray', 'low-quality'] as const
    for (const [row, name] of names.entries()) expect(await withMode(name)).toEqual(await withMode(row))
    expect(relL2(await withMode('auto'), await withMode('canny'))).toBeGreaterThan(1e-3)
    await withMode(9)
  })

  test('the effects of several add up, whatever their order', async () => {
    await flux.attach(ALL)
    const controls = [unionInput, { attachment: 1, image: latents }, xlabsInput]
    const [one, other] = [
      await flux.predict({ ...input, controls, imagePrompts: [prompt] }),
      await flux.predict({ ...input, controls: controls.toReversed(), imagePrompts: [prompt] }),
    ]
    expect(relL2(one, other)).toBeLessThan(1e-3)
    const halves = [prompt, prompt].map((it) => ({ ...it, scale: 0.3 }))
    expect(relL2(await flux.predict({ ...input, controls, imagePrompts: halves }), one)).toBeLessThan(1e-3)
  })

  test('with a transformer without guidance, the ControlNet gets its own', async () => {
    const path = join(folder, 'schnell.safetensors')
    const config = { depth: 3, depthSingleBlocks: 3, guidanceEmbed: false }
    await synthesize({ architecture: 'flux-tiny', config, type: 'F32', path })
    await using schnell = await FluxTransformer.load(path, onTestBackend)
    await schnell.attach([net(union)])
    const { guidance: _, ...given } = input
    await expect(schnell.predict({ ...given, controls: [unionInput] })).rejects.toThrow(
      /controls\[0\]\.guidance is undefined: give a number from 0 to 1000/,
    )
    await schnell.predict({ ...given, controls: [{ ...unionInput, guidance: 3.5 }] })
  })
})

test.each(['Q8_0', 'BF16'] as const)('in %s: close to F32', async (type) => {
  const attached: FluxAttachment[] = []
  for (const [i, { kind, path }] of ALL.entries()) {
    const output = join(folder, `${i}-${type}.gguf`)
    await convert(path, output, { type })
    attached.push({ kind, path: output })
  }
  const controls = [unionInput, { attachment: 1, image: latents }, xlabsInput]
  await flux.attach(ALL)
  const fine = await flux.predict({ ...input, controls, imagePrompts: [prompt] })
  await flux.attach(attached)
  const coarse = await flux.predict({ ...input, controls, imagePrompts: [prompt] })
  // the README of the reference data: 1.6e-2 for the transformer itself in 8-bit blocks, three times that is allowed
  expect(relL2(coarse, fine)).toBeLessThan(0.05)
  expect(relL2(coarse, fine)).toBeGreaterThan(0)
})

describe('refused before any work', () => {
  beforeEach(() => flux.attach(ALL))
  const predict = (controls: unknown, imagePrompts: unknown = []) =>
    flux.predict({ ...input, controls, imagePrompts } as never)

  test.each<[object, string, RegExp]>([
    [{ attachment: 4 }, 'FLUX_BAD_OPTION', /attachment is 4: give the index of an attached controlnet: one of 0, 1, 2/],
    [{ attachment: 3 }, 'FLUX_BAD_OPTION', /controls\[0\]\.attachment is 3/],
    [{ attachment: -1 }, 'FLUX_BAD_OPTION', /attachment is -1/],
    [
      { mode: undefined },
      'FLUX_BAD_OPTION',
      /mode is undefined: give one of canny, tile, .*low-quality, auto, or a number/,
    ],
    [{ mode: 'openpose' }, 'FLUX_BAD_OPTION', /mode is 'openpose'/],
    [{ mode: 10 }, 'FLUX_BAD_OPTION', /mode is 10: .*from 0 to 9/],
    [{ mode: 1.5 }, 'FLUX_BAD_OPTION', /mode is 1.5/],
    [{ attachment: 1, mode: 'canny' }, 'FLUX_BAD_OPTION', /mode is 'canny': give none: .* no union ControlNet/],
    [{ scale: -0.1 }, 'FLUX_BAD_OPTION', /scale is -0.1: give a number from 0 to 10/],
    [{ scale: 11 }, 'FLUX_BAD_OPTION', /scale is 11/],
    [{ scale: NaN }, 'FLUX_BAD_OPTION', /scale is NaN/],
    [{ scale: '1' }, 'FLUX_BAD_OPTION', /scale is '1'/],
    [{ singleBlocks: 1 }, 'FLUX_BAD_OPTION', /singleBlocks is 1/],
    [{ guidance: -1 }, 'FLUX_BAD_OPTION', /guidance is -1/],
    [{ strength: 1 }, 'FLUX_BAD_OPTION', /there is no strength in controls\[0\]/],
    [{ image: latents.subarray(1) }, 'FLUX_BAD_SHAPE', /controls\[0\]\.image has 4095 numbers; whole rows of 64/],
    [{ image: [...latents] }, 'FLUX_BAD_OPTION', /image must be a Float32Array/],
    [{ image: wave(64 * 65, 1) }, 'FLUX_BAD_SHAPE', /image has 65 tokens, and the image has 64/],
    [{ image: wave(64, 1).fill(NaN, 7, 8), scale: 0 }, 'FLUX_BAD_OPTION', /image has NaN at 7: give finite numbers/],
    [{ height: 128 }, 'FLUX_BAD_OPTION', /height is 128: give it for an RGB image only/],
  ])('%o', async (change, code, message) => {
    const control = { ...unionInput, ...change }
    await expect(predict([control])).rejects.toMatchObject({ name: 'FluxError', code })
    await expect(predict([control])).rejects.toThrow(message)
  })

  test.each<[object, string, RegExp]>([
    [{ height: undefined }, 'FLUX_BAD_OPTION', /height is undefined: give a multiple of 16/],
    [{ width: 120 }, 'FLUX_BAD_OPTION', /width is 120/],
    [{ width: 112 }, 'FLUX_BAD_SHAPE', /image has 49152 numbers; 43008 are needed/],
    [{ width: 256, image: wave(3 * 128 * 256, 1) }, 'FLUX_BAD_SHAPE', /image has 128 tokens/],
  ])('an RGB image: %o', async (change, code, message) => {
    await expect(predict([{ ...xlabsInput, ...change }])).rejects.toMatchObject({ name: 'FluxError', code })
    await expect(predict([{ ...xlabsInput, ...change }])).rejects.toThrow(message)
  })

  test.each<[object, string, RegExp]>([
    [{ attachment: 0 }, 'FLUX_BAD_OPTION', /imagePrompts\[0\]\.attachment is 0: .*one of 3/],
    [{ embeds: wave(47, 1) }, 'FLUX_BAD_SHAPE', /embeds has 47 numbers; 48 are needed/],
    [{ embeds: wave(48, Infinity) }, 'FLUX_BAD_OPTION', /embeds has NaN at 0/],
    [{ scale: -11 }, 'FLUX_BAD_OPTION', /scale is -11: give a number from -10 to 10/],
  ])('an image prompt: %o', async (change, code, message) => {
    await expect(predict([], [{ ...prompt, ...change }])).rejects.toMatchObject({ name: 'FluxError', code })
    await expect(predict([], [{ ...prompt, ...change }])).rejects.toThrow(message)
  })

  test('lists that are none, or too long', async () => {
    for (const controls of [unionInput, 'x', Array(17).fill(unionInput)])
      await expect(predict(controls)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    for (const attachments of [net(union), Array(17).fill(net(union)), [null], [{ kind: 'lora', path: union }]])
      await expect(flux.attach(attachments as never)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })

  test('a wrong file leaves everything as it was', async () => {
    const before = await predict([unionInput], [prompt])
    const wide = join(folder, 'wide.safetensors')
    await synthesize({ architecture: 'flux-controlnet-tiny', config: { hiddenSize: 384, numHeads: 3 }, path: wide })
    const deep = join(folder, 'deep.safetensors')
    await synthesize({ architecture: 'flux-ip-adapter-tiny', path: deep })
    const cut = join(folder, 'cut.safetensors')
    copyFileSync(union, cut)
    truncateSync(cut, 1e6)
    for (const [attachment, code, message] of [
      [net(wide), 'FLUX_BAD_FILE', /wide\.safetensors: hiddenSize is 384, and the transformer's is 256/],
      [adapter(deep), 'FLUX_BAD_FILE', /deep\.safetensors: depth is 2, and the transformer's is 3/],
      [net(cut), 'FLUX_BAD_FILE', /cut\.safetensors/],
      [net(transformer), 'FLUX_BAD_FILE', /this seems to be a FLUX transformer, not a ControlNet for FLUX\.1/],
      [adapter(union), 'FLUX_BAD_FILE', /this seems to be a ControlNet for FLUX\.1, not XLabs' IP-Adapter/],
      [net(join(folder, 'nothing')), 'FLUX_NOT_FOUND', /nothing/],
    ] as const) {
      await expect(flux.attach([attachment])).rejects.toMatchObject({ name: 'FluxError', code })
      await expect(flux.attach([attachment])).rejects.toThrow(message)
    }
    await expect(FluxTransformer.load(union)).rejects.toThrow(
      /this seems to be a ControlNet for FLUX\.1, not a FLUX tr/,
    )
    await expect(describeControlNet(wide, flux.config)).rejects.toThrow(/hiddenSize is 384/)
    expect(await predict([unionInput], [prompt])).toEqual(before)
  })
})

test('describeControlNet says what the control image is', async () => {
  const modes = ['canny', 'tile', 'depth', 'blur', 'pose', 'gray', 'low-quality']
  expect(await describeControlNet(union)).toMatchObject({ input: 'latents', modes, guidance: true })
  expect(await describeControlNet(plain, flux.config)).toMatchObject({ input: 'latents', modes: [] })
  expect(await describeControlNet(xlabs)).toMatchObject({ input: 'rgb', modes: [], config: { depth: 2 } })
  const path = join(folder, 'inpainting.safetensors')
  await synthesize({ architecture: 'flux-controlnet-tiny', config: { condChannels: 68, modes: 0 }, path })
  expect(await describeControlNet(path)).toMatchObject({ input: 'latents-and-mask', modes: [] })
})

describe('costs', () => {
  const counted = async (work: () => Promise<unknown>) => {
    const profile = await flux.profile(work)
    const sum = (...names: string[]) =>
      profile.filter(({ name }) => names.includes(name)).reduce((total, { operations }) => total + operations, 0)
    return { products: sum('linear', 'convolution'), attention: sum('attention') }
  }
  const transformerFlops = FLUX.flops(flux.config, [TOKENS, 40])

  test('what the graph counts is what the definitions say', async () => {
    await flux.attach(ALL)
    const [{ config: unionConfig }, { config: ipConfig }] = [
      await openNetworkFile('controlnet', union),
      await openNetworkFile('ip-adapter', ip),
    ]
    const expected = [
      transformerFlops,
      CONTROLNET.flops(unionConfig, [TOKENS, 40]),
      IP_ADAPTER.flops(ipConfig, [TOKENS]),
    ]
    const sum = (field: 'products' | 'attention') => expected.reduce((total, flops) => total + flops[field], 0)
    expect(await counted(() => flux.predict({ ...input, controls: [unionInput], imagePrompts: [prompt] }))).toEqual({
      products: sum('products'),
      attention: sum('attention'),
    })
  })

  test('a scale of 0 skips the work', async () => {
    await flux.attach(ALL)
    const off = { controls: [{ ...unionInput, scale: 0 }], imagePrompts: [{ ...prompt, scale: 0 }] }
    expect(await counted(() => flux.predict({ ...input, ...off }))).toEqual(transformerFlops)
  })

  test('a ControlNet that reads an image: its convolutions, and no more than the definition says', async () => {
    await flux.attach(ALL)
    const { config } = await openNetworkFile('controlnet', xlabs)
    const { products, attention } = CONTROLNET.flops(config, [TOKENS, 40])
    const found = await counted(() => flux.predict({ ...input, controls: [xlabsInput] }))
    // the text of its last block acts on nothing
    expect(found.products - transformerFlops.products).toBeLessThan(products)
    expect(found.products - transformerFlops.products).toBeGreaterThan(0.8 * products)
    expect(found.attention - transformerFlops.attention).toBe(attention)
  })

  test('at full size, a union of 5 + 10 blocks is a fifth of a step with it', () => {
    const [full, control] = [
      FLUX.flops(FLUX.examples['flux-dev']!, [4096, 512]),
      CONTROLNET.flops(CONTROLNET.examples['flux-controlnet-union']!, [4096, 512]),
    ].map(({ products, attention }) => products + attention) as [number, number]
    expect(control / (full + control)).toBeCloseTo(0.22, 2)
  })

  test('the memory that is predicted is what is then taken', async () => {
    const attachments = [net(union), net(xlabs), adapter(ip)]
    const predicted = await FluxTransformer.activationBytes(transformer, TOKENS, 40, onTestBackend, attachments)
    await using fresh = await FluxTransformer.load(transformer, onTestBackend)
    await fresh.attach(attachments)
    const controls = [unionInput, { ...xlabsInput, attachment: 1 }]
    await fresh.predict({ ...input, controls, imagePrompts: [{ ...prompt, attachment: 2 }] })
    expect(Math.abs(fresh.memory().compute / predicted - 1)).toBeLessThan(0.02)
    expect(predicted).toBeGreaterThan(await FluxTransformer.activationBytes(transformer, TOKENS, 40, onTestBackend))
    await expect(
      FluxTransformer.activationBytes(await goldenWeights('flux-dev-tiny'), 64, 8, onTestBackend, [adapter(ip)]),
    ).rejects.toThrow(/depth is 3, and the transformer's is 2/)
  })
})

test('samples are computed when they are needed, and are not all in memory together', async () => {
  const depths = { depth: 8, depthSingleBlocks: 8 }
  const [model, many] = [join(folder, 'deep-flux.safetensors'), join(folder, 'deep-controlnet.safetensors')]
  await synthesize({ architecture: 'flux-tiny', config: depths, path: model })
  await synthesize({ architecture: 'flux-controlnet-tiny', config: depths, path: many })
  const bytes = (attachments: FluxAttachment[]) =>
    FluxTransformer.activationBytes(model, 1024, 64, onTestBackend, attachments)
  const samples = 16 * 1024 * 256 * 4
  expect((await bytes([net(many)])) - (await bytes([]))).toBeLessThan(samples / 3)
})

// ggml ends the process when a graph has more nodes than it was given room for.
test('the graph has room for everything that can be attached, on every path', { timeout: 120_000 }, async () => {
  const PLENTY = 2 ** 34
  const files = await Promise.all(ALL.map(({ kind, path }) => openNetworkFile(kind, path)))
  const own = await openNetworkFile('flux', transformer)
  const numbers = (file: { kind: string; config: object }) => networkDefinition(file.kind).nativeConfig(file.config)
  for (const precision of ['auto', 'f32'] as const) {
    const options = { device: 'CPU', threads: 1, precision }
    const network = new (nativeAddon().Network)('flux', [own.file.path], own.tensors, numbers(own), options)
    try {
      await network.load(PLENTY)
      await network.attach(
        files.map((file) => ({
          kind: file.kind,
          files: [file.file.path],
          tensors: file.tensors,
          config: numbers(file),
        })),
        PLENTY,
      )
      for (const [tokens, uses] of [
        [4, 1],
        [36, 8],
      ] as const) {
        const side = 16 * Math.sqrt(tokens)
        const lead = Int32Array.from({ length: 1 + 40 + tokens }, (_, i) => i)
        const control = (shape: number[], image: number) => ({
          shape,
          inputs: [wave(image, 0.1), wave(256, 1), ...(shape[3] ? [Int32Array.of(1)] : []), Float32Array.of(1)],
        })
        const controls = Array.from({ length: uses }, () => [
          control([0, tokens, 1, 1, 1], 64 * tokens),
          control([1, tokens, 1, 0, 1], 64 * tokens),
          control([2, side, side, 0, 1], 3 * side * side),
        ]).flat()
        const prompts = Array.from({ length: uses }, () => [wave(48, 1), Float32Array.of(1)])
        const shape = [
          ...[tokens, 40, 0b111, 0, controls.length],
          ...controls.flatMap((use) => use.shape),
          ...[uses, ...prompts.map(() => 3)],
        ]
        const text = [wave(tokens * 64, 1), wave(40 * 256, 1), wave(128, 1), wave(256, 1), wave(256, 1)]
        const inputs = [...text, lead, lead, lead, ...controls.flatMap((use) => use.inputs), ...prompts.flat()]
        const { outputs } = await network.run('predict', shape, inputs, PLENTY)
        expect(outputs[0]!.every(Number.isFinite)).toBe(true)
        const { nodes, maxNodes } = network.status()
        expect(nodes).toBeGreaterThan(uses * 100)
        expect(nodes).toBeLessThanOrEqual(maxNodes)
      }
      // what TypeScript never sends is refused as well
      for (const bad of [
        [1, 9, 4, 1, 1, 1, 0],
        [1, 3, 4, 1, 0, 1, 0],
        [1, 1, 4, 1, 1, 1, 0],
        [1, 0, 5, 1, 0, 1, 0],
        [1, 2, 17, 32, 0, 1, 0],
        [1, 0, 4, 1, 2, 1, 0],
        [65],
        [1, 0, 4],
        [0, 1, 0],
        [0],
      ])
        await expect(network.run('predict', [4, 8, 0, 0, ...bad], [], PLENTY)).rejects.toThrow(/^FLUX_BAD_/)
      await expect(network.attach([7], PLENTY)).rejects.toThrow(/^FLUX_BAD_OPTION: there is no such attachment/)
    } finally {
      await network.close()
    }
  }
})

test('cancelling: in a step with a ControlNet, and while it is loaded', { timeout: 60_000 }, async () => {
  await flux.attach(ALL)
  const large = anyInput(flux, 32, 256)
  const control = { ...unionInput, image: wave(32 * 32 * 64, 0.9) }
  const all = { ...large, controls: [control, control, control] }
  const end = new AbortController()
  const call = flux.predict({ ...all, signal: end.signal })
  await sleep(100)
  end.abort(new Error('enough'))
  await expect(call).rejects.toThrow('enough')
  const before = await flux.predict({ ...input, controls: [unionInput] })

  await expect(flux.attach([net(plain)], { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no')
  expect(await flux.predict({ ...input, controls: [unionInput] })).toEqual(before)
  const running = flux.predict(input)
  await expect(flux.attach([net(plain)])).rejects.toMatchObject({ code: 'FLUX_BUSY' })
  await running
  expect(await flux.predict({ ...input, controls: [unionInput] })).toEqual(before)
})

test('after close it is refused', async () => {
  const closed = await FluxTransformer.load(transformer, onTestBackend)
  await closed.attach([net(union)])
  await closed.close()
  await expect(closed.attach([])).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
  await expect(closed.attach([net(plain)])).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
})
