import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { FluxPipeline, inspectModel, pull, pullFile, removeCached } from '../../lib/index.js'
import type { ModelFiles } from '../../lib/families/registry.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { synthesize, type SynthOptions } from '../../lib/tools/synth/synth.js'
import { onTestBackend } from '../support/backend.js'
import { FakeHub } from '../support/hub.js'
import { loraFile, numbers, RANK, tensorSource } from '../support/lora.js'
import { loadTiny, SMALL } from '../support/tiny.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-presets-'))
const image = { data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 31) % 256), width: 64, height: 64 }
const REDUX = { redux: [{ image }] }
const tiny = (name: string) => readFileSync(fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url)))

let hub: FakeHub
let cacheDir: string
const options = () => ({ cacheDir, endpoint: hub.endpoint })
const offline = () => ({ cacheDir, offline: true })
const made = async (architecture: string, config: SynthOptions['config']) => {
  const path = join(folder, `${architecture}.safetensors`)
  await synthesize({ architecture, path, ...(config ? { config } : {}) })
  return readFileSync(path)
}
/** the repositories that were asked for bytes or listings */
const asked = (name: string) => hub.requests.some(({ url }) => decodeURIComponent(url).includes(name))

beforeAll(async () => {
  hub = await FakeHub.start()
  const size = { hiddenSize: 256, contextInDim: 128, vecInDim: 128 }
  hub.add('Runware/FLUX.1-Redux-dev', {
    'flux1-redux-dev.safetensors': await made('redux-tiny', { reduxDim: 1152, txtInFeatures: 128 }),
  })
  hub.add('Comfy-Org/sigclip_vision_384', {
    // of a width whose number of heads is known
    'sigclip_vision_patch14_384.safetensors': await made('siglip-tiny', {
      hiddenSize: 1152,
      numHeads: 16,
      numLayers: 1,
    }),
  })
  hub.add('Shakker-Labs/FLUX.1-dev-ControlNet-Depth', {
    'config.json': Buffer.from('{}'),
    'diffusion_pytorch_model.safetensors': await made('flux-controlnet-tiny', { ...size, modes: 0 }),
  })
  hub.add('XLabs-AI/flux-ip-adapter', {
    'ip_adapter.safetensors': await made('flux-ip-adapter-tiny', { contextDim: 128 }),
  })
  const lora = async (width: number) => {
    const layer = 'lora_unet_double_blocks_0_img_attn_proj'
    const path = await loraFile(join(folder, `${width}.safetensors`), [
      tensorSource(`${layer}.lora_down.weight`, numbers([RANK, width], 1, 0.3)),
      tensorSource(`${layer}.lora_up.weight`, numbers([width, RANK], 2, 0.3)),
      tensorSource(`${layer}.alpha`, numbers([1], 3)),
    ])
    return readFileSync(path)
  }
  hub.add('a/lora', { 'style.safetensors': await lora(3072) })
  hub.add('Comfy-Org/flux1-dev', {
    'flux1-dev-fp8.safetensors': tiny('vae.safetensors'),
    'split_files/loras/flux1-depth-dev-lora.safetensors': await lora(256),
  })
  const canny = await made('flux-tiny', { ...size, inChannels: 128, depth: 1, depthSingleBlocks: 1 })
  hub.add('SporkySporkness/FLUX.1-Canny-dev-GGUF', {
    'flux1-canny-dev-fp16-F16-GGUF.gguf': tiny('clip.gguf'),
    'flux1-canny-dev-fp16-Q4_0-GGUF.gguf': canny,
    'flux1-canny-dev-fp16-Q5_0-GGUF.gguf': tiny('clip.gguf'),
  })
  hub.add('city96/t5-v1_1-xxl-encoder-gguf', { 't5-v1_1-xxl-encoder-Q8_0.gguf': tiny('t5.gguf') })
  hub.add('comfyanonymous/flux_text_encoders', { 'clip_l.safetensors': tiny('clip.gguf') })
  hub.add('Comfy-Org/Lumina_Image_2.0_Repackaged', { 'split_files/vae/ae.safetensors': tiny('vae.safetensors') })
  hub.add('openai/clip-vit-large-patch14', {
    'vocab.json': tiny('vocab.json'),
    'merges.txt': tiny('merges.txt'),
    'model.safetensors': await made('clip-vision-tiny', undefined),
  })
}, 120_000)

afterAll(async () => {
  await hub.stop()
  rmSync(folder, { recursive: true })
})

beforeEach(() => {
  cacheDir = mkdtempSync(join(tmpdir(), 'ggflux-hub-'))
  hub.requests.length = 0
})

afterEach(() => rmSync(cacheDir, { recursive: true }))

test('a LoRA and a ControlNet by name draw what their files draw, later without any request', async () => {
  const lora = [{ path: 'flux.1-depth-dev-lora' }]
  const net = [{ path: 'FLUX.1-Shakker-Depth', image }]
  const pipe = await loadTiny({ hub: options() })
  const plain = await pipe.generate(SMALL)
  const estimate = await pipe.estimate({ ...SMALL, controlNets: net, loras: lora })
  expect(estimate.operations.step).toBeGreaterThan(0)
  expect([hub.requests, readdirSync(cacheDir)]).toEqual([[], []])
  const drawn = await pipe.generate({ ...SMALL, loras: lora, controlNets: net })
  expect(drawn.equals(plain)).toBe(false)
  await pipe.close()

  hub.requests.length = 0
  const later = await loadTiny({ hub: offline() })
  expect((await later.generate({ ...SMALL, loras: lora, controlNets: net })).equals(drawn)).toBe(true)
  expect(hub.requests).toEqual([])
  const here = [
    { path: await pullFile('flux.1-depth-dev-lora', offline()) },
    { path: await pullFile('flux.1-shakker-depth', offline()), image },
  ] as const
  expect((await later.generate({ ...SMALL, loras: [here[0]], controlNets: [here[1]] })).equals(drawn)).toBe(true)
  await later.close()
}, 120_000)

describe('Redux', () => {
  const load = (more: object, hub: object) =>
    FluxPipeline.load({ ...tinyModelFiles(), redux: 'flux.1-redux-dev', ...more }, { ...onTestBackend, hub })

  test('brings its vision tower, later without any request', async () => {
    const pipe = await load({}, options())
    const drawn = await pipe.generate({ ...SMALL, ...REDUX })
    await pipe.close()
    hub.requests.length = 0
    const later = await load({}, offline())
    expect((await later.generate({ ...SMALL, ...REDUX })).equals(drawn)).toBe(true)
    await later.close()
    expect(hub.requests).toEqual([])
  }, 120_000)

  test('takes the vision tower that is given', async () => {
    const pipe = await load({ siglip: join(folder, 'siglip-tiny.safetensors') }, options())
    expect((await pipe.generate({ ...SMALL, ...REDUX })).length).toBe(64 * 64 * 3)
    await pipe.close()
    expect([asked('Redux'), asked('sigclip')]).toEqual([true, false])
  }, 120_000)
})

test('an IP-Adapter and its vision tower, and a transformer among the files', async () => {
  const files = { ...tinyModelFiles(), clipVision: 'clip-vit-large-patch14' }
  const pipe = await FluxPipeline.load(files, { ...onTestBackend, hub: options() })
  const ipAdapters = [{ path: 'flux.1-xlabs-ip-adapter', image }]
  expect((await pipe.generate({ ...SMALL, ipAdapters })).length).toBe(64 * 64 * 3)
  await pipe.close()
  const { transformer, clipVision } = await pull({ ...files, transformer: 'flux.1-canny-dev:Q4_0' }, options())
  expect([transformer, clipVision]).toEqual([
    expect.stringMatching(/flux1-canny-dev-fp16-Q4_0-GGUF\.gguf$/),
    expect.stringMatching(/snapshots.*model\.safetensors$/),
  ])
}, 120_000)

test('Canny is a model like the others', async () => {
  const { files, problems } = await inspectModel('flux.1-canny-dev', { ...onTestBackend, hub: options() })
  expect(problems).toEqual([])
  expect(files[0]!.needs.join()).toMatch(/control/i)
  const { transformer } = await pull('flux.1-canny-dev', options())
  expect(transformer).toMatch(/flux1-canny-dev-fp16-Q4_0-GGUF\.gguf$/)
})

test('names that no preset has, and names of files in place of a model', async () => {
  const unknown = (name: string) => ({
    code: 'FLUX_NOT_FOUND',
    message: expect.stringMatching(
      `^'${name}' is no preset and no file: give flux.1-schnell, .*flux.1-redux-dev, .*path`,
    ),
  })
  const pipe = await loadTiny({ hub: options() })
  for (const option of ['loras', 'controlNets', 'ipAdapters'])
    await expect(
      pipe.generate({
        ...SMALL,
        [option]: [{ path: 'flux.1-shaker-depth', ...(option === 'loras' ? {} : { image }) }],
      }),
    ).rejects.toMatchObject(unknown('flux.1-shaker-depth'))
  await pipe.close()
  const files: ModelFiles = { ...tinyModelFiles(), redux: 'flux.1-redux' }
  await expect(FluxPipeline.load(files, { hub: options() })).rejects.toMatchObject(unknown('flux.1-redux'))
  // what looks like a path is one
  const path = { ...files, redux: 'flux.1-redux.safetensors' }
  await expect(FluxPipeline.load(path, { hub: options() })).rejects.toThrow(
    /^flux.1-redux.safetensors: there is no such/,
  )
  const listed = /names nothing on the hub: give flux.1-schnell, .*flux.1-xlabs-hed-v3, .*hf:owner/
  await expect(pullFile('flux.1-shaker-depth', options())).rejects.toThrow(listed)
  await expect(removeCached('flux.1-shaker-depth', options())).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  const noModel = { code: 'FLUX_BAD_OPTION', message: expect.stringMatching(/^'flux.1-redux-dev' is one file, not a/) }
  for (const call of [pull, inspectModel, FluxPipeline.load])
    await expect(call('flux.1-redux-dev' as never)).rejects.toMatchObject(noModel)
  // a network of another kind is found in its header
  const wrong = { ...tinyModelFiles(), redux: 'flux.1-shakker-depth' }
  await expect(FluxPipeline.load(wrong, { hub: options() })).rejects.toThrow(/ControlNet/)
  expect(existsSync(join(cacheDir, 'models--Shakker-Labs--FLUX.1-dev-ControlNet-Depth'))).toBe(false)
}, 120_000)

describe('the commands', () => {
  const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
  const ggflux = (...args: string[]) =>
    promisify(execFile)(process.execPath, [program, ...args], {
      cwd: cacheDir,
      env: { ...process.env, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cacheDir, HF_TOKEN: '', HF_HUB_OFFLINE: '' },
    })

  test('pull brings what a file needs, with --only nothing else; rm removes the file alone', async () => {
    expect((await ggflux('pull', 'flux.1-redux-dev', '--only', '--quiet')).stdout).toBe('')
    expect(asked('sigclip')).toBe(false)
    const { stdout } = await ggflux('pull', 'flux.1-redux-dev')
    expect(stdout).toMatch(
      /^file +\/.*flux1-redux-dev\.safetensors\nsiglip +\/.*sigclip_vision_patch14_384\.safetensors$/m,
    )
    expect((await ggflux('list')).stdout.match(/^hf:\S+/gm)).toEqual([
      'hf:Comfy-Org/sigclip_vision_384:sigclip_vision_patch14_384.safetensors',
      'hf:Runware/FLUX.1-Redux-dev:flux1-redux-dev.safetensors',
    ])
    const removed = (await ggflux('rm', 'flux.1-redux-dev')).stdout
    expect(removed).toMatch(/^removed hf:Runware\/FLUX\.1-Redux-dev:flux1-redux-dev\.safetensors\n/)
    expect((await ggflux('list')).stdout).toMatch(/^1 files/m)
    expect((await ggflux('pull', '--help')).stdout).toMatch(/flux\.1-canny-dev,[^]*flux\.1-alimama-inpainting-beta\n/)
  }, 120_000)

  test('inspect describes a file on the hub without its bytes', async () => {
    const net = (await ggflux('inspect', 'flux.1-shakker-depth')).stdout
    expect(net).toMatch(/role +controlnet$/m)
    const lora = (await ggflux('inspect', 'hf:a/lora:style.safetensors')).stdout
    expect(lora).toMatch(/architecture +LoRA of rank \d+: layers 1 in the/)
    expect(readdirSync(cacheDir)).toEqual([])
    await expect(ggflux('inspect', 'flux.1-shaker-depth')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/is no preset and no file/),
    })
  }, 120_000)

  test('generate takes names for files that are not in the cache', async () => {
    const args = ['generate', 'a red circle', '--steps', '1', '--width', '64', '--height', '64']
    const draw = (...more: string[]) => ggflux(...args, ...more)
    const edges = join(cacheDir, 'edges.png')
    await draw('-o', edges)
    const net = `file=flux.1-shakker-depth,image=${edges}`
    await draw('--controlnet', net, '--lora', 'flux.1-depth-dev-lora:0.5', '-o', 'a.png')
    await draw('--redux', 'flux.1-redux-dev', '--redux-image', `image=${edges}`, '-o', 'b.png')
    expect(['a.png', 'b.png'].map((name) => existsSync(join(cacheDir, name)))).toEqual([true, true])
  }, 120_000)

  test('a preset goes before a file of its name, with a warning', async () => {
    mkdirSync(join(cacheDir, 'flux.1-canny-dev'))
    writeFileSync(join(cacheDir, 'flux.1-shakker-depth'), tiny('vae.safetensors'))
    for (const name of ['flux.1-canny-dev', 'flux.1-shakker-depth']) {
      const { stderr } = await ggflux('inspect', name)
      expect(stderr).toContain(`'${name}' is a preset, so the file or folder with this name is not used`)
    }
    const { stdout, stderr } = await ggflux('inspect', './flux.1-shakker-depth')
    expect([stderr, stdout]).toEqual(['', expect.stringMatching(/role +autoencoder/)])
  }, 120_000)
})
