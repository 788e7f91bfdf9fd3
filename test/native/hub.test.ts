import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { downloadFileToCacheDir } from '@huggingface/hub'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { withFileLock } from '../../lib/native/file-lock.js'
import { readHubFile, readHubModel } from '../../lib/hub/pull.js'
import { cachedModels, FluxPipeline, inspectModel, pull, pullFile, removeCached } from '../../lib/index.js'
import { describeFile } from '../../lib/inspect/file.js'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { synthesize, type SynthOptions } from '../../lib/tools/synth/synth.js'
import { onTestBackend } from '../support/backend.js'
import { stopwatch } from '../support/clock.js'
import { FakeHub, lastChange } from '../support/hub.js'
import { loraFile, numbers, RANK, tensorSource } from '../support/lora.js'
import { freePort } from '../support/rpc-server.js'
import { loadTiny, SMALL } from '../support/tiny.js'

const tiny = (name: string) => readFileSync(fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url)))
const SCHNELL = 'city96/FLUX.1-schnell-gguf'
const FOLDER = 'models--city96--FLUX.1-schnell-gguf'
const T5 = 'city96/t5-v1_1-xxl-encoder-gguf'
/** large enough for large-file storage, small enough to be quick */
const BYTES = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) % 256))

let hub: FakeHub
let cacheDir: string
const options = () => ({ cacheDir, endpoint: hub.endpoint })
const bytesRequests = () =>
  hub.requests.filter(({ url, range }) => url.includes('.gguf') && range !== 'bytes=0-0' && !url.includes('/api/'))

beforeAll(async () => {
  hub = await FakeHub.start()
  hub.add(SCHNELL, {
    'README.md': Buffer.from('a model'),
    'flux1-schnell-Q4_K_S.gguf': tiny('transformer.gguf'),
    'flux1-schnell-Q8_0.gguf': tiny('clip.gguf'),
  })
  hub.add(T5, { 't5-v1_1-xxl-encoder-Q8_0.gguf': tiny('t5.gguf'), 't5-v1_1-xxl-encoder-Q4_K_S.gguf': BYTES })
  hub.add('comfyanonymous/flux_text_encoders', { 'clip_l.safetensors': tiny('clip.gguf') })
  hub.add('Comfy-Org/Lumina_Image_2.0_Repackaged', { 'split_files/vae/ae.safetensors': tiny('vae.safetensors') })
  hub.add('openai/clip-vit-large-patch14', {
    'vocab.json': tiny('vocab.json'),
    'merges.txt': tiny('merges.txt'),
    'model.safetensors': BYTES,
  })
  hub.add('a/bytes', { 'bytes.gguf': BYTES, 'small.gguf': Buffer.from('a few bytes') })
})

afterAll(() => hub.stop())

beforeEach(() => {
  cacheDir = mkdtempSync(join(tmpdir(), 'ggflux-hub-'))
  hub.requests.length = 0
  hub.mishaps.clear()
  hub.gated.clear()
})

afterEach(() => rmSync(cacheDir, { recursive: true }))

describe('a model', () => {
  test('is loaded from the hub, then from the cache without any request, and draws what the same files draw', async () => {
    const progress: [number, number][] = []
    const draw = async (hubOptions: object, onDownload?: (done: number, total: number) => void) => {
      const pipe = await FluxPipeline.load('flux.1-schnell', {
        ...onTestBackend,
        hub: { ...options(), ...hubOptions },
        ...(onDownload ? { onDownload } : {}),
      })
      const image = await pipe.generate(SMALL)
      await pipe.close()
      return image
    }
    const image = await draw({}, (...now) => progress.push(now))
    const pipe = await loadTiny()
    expect(image.equals(await pipe.generate(SMALL))).toBe(true)
    await pipe.close()

    const sizes = ['transformer.gguf', 't5.gguf', 'clip.gguf', 'vae.safetensors', 'vocab.json', 'merges.txt'].map(
      (name) => tiny(name).length,
    )
    const total = sizes.reduce((sum, size) => sum + size)
    expect(progress.every(([done, all], i) => all === total && done > (progress[i - 1]?.[0] ?? 0))).toBe(true)
    expect(progress.at(-1)).toEqual([total, total])
    expect(hub.requests.filter(({ url }) => url.includes('model.safetensors'))).toEqual([])

    hub.requests.length = 0
    expect((await draw({ offline: true })).equals(image)).toBe(true)
    const quiet: unknown[] = []
    expect((await draw({}, (...now) => quiet.push(now))).equals(image)).toBe(true)
    expect(hub.requests).toEqual([])
    expect(quiet).toEqual([])
  }, 60_000)

  test('lies in the cache as all tools expect it', async () => {
    await pullFile(`hf:${SCHNELL}:Q4_K_S`, options())
    const commit = hub.commit(SCHNELL)
    const root = join(cacheDir, FOLDER)
    expect(readFileSync(join(root, 'refs/main'), 'utf8')).toBe(commit)
    const link = join(root, 'snapshots', commit, 'flux1-schnell-Q4_K_S.gguf')
    const sha256 = createHash('sha256').update(tiny('transformer.gguf')).digest('hex')
    expect(lstatSync(link).isSymbolicLink()).toBe(true)
    expect(readlinkSync(link)).toBe(`../../blobs/${sha256}`)
    expect(readFileSync(link).equals(tiny('transformer.gguf'))).toBe(true)
    expect(readdirSync(join(root, 'blobs'))).toEqual([sha256])
    expect(readdirSync(join(cacheDir, '.locks', FOLDER))).toEqual([`${sha256}.lock`])
  })

  test('a file outside large-file storage is known by the hash that git gives it', async () => {
    const path = await pullFile('hf:a/bytes:small.gguf', options())
    // git hash-object of 'a few bytes'
    const expected = createHash('sha1').update('blob 11\0a few bytes').digest('hex')
    expect(basename(readlinkSync(path))).toBe(expected)
  })

  test('headers are read first: what is no FLUX.1 costs no download', async () => {
    await expect(pull(`hf:${SCHNELL}:Q8_0`, options())).rejects.toThrow(
      /flux1-schnell-Q8_0.gguf\): this seems to be a CLIP text encoder, not a FLUX transformer/,
    )
    expect(readdirSync(cacheDir).flatMap((name) => (existsSync(join(cacheDir, name, 'blobs')) ? [name] : []))).toEqual(
      [],
    )
  })

  test('is inspected where it lies', async () => {
    const { path, size } = await readHubFile(`hf:${SCHNELL}:Q4_K_S`, options())
    expect([path, size]).toEqual([`hf:${SCHNELL}:Q4_K_S (flux1-schnell-Q4_K_S.gguf)`, tiny('transformer.gguf').length])
    const { headers, files } = await readHubModel('flux.1-schnell', options())
    expect(files).toBeUndefined()
    const kinds = headers.map((file) => describeFile(file))
    expect(kinds.map(({ role, problems }) => [role, problems])).toEqual([
      ['transformer', []],
      ['t5', []],
      ['clip', []],
      ['autoencoder', []],
    ])
    expect(bytesRequests().every(({ range }) => range !== undefined)).toBe(true)
    expect(readdirSync(cacheDir).some((name) => existsSync(join(cacheDir, name, 'blobs')))).toBe(false)
  })

  test('parts on the hub and on this machine', async () => {
    const local = (name: string) => fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url))
    const files = {
      transformer: `hf:${SCHNELL}:Q4_K_S`,
      t5: local('t5.gguf'),
      clip: local('clip.gguf'),
      vae: local('vae.safetensors'),
      tokenizers: { clip: local('') },
    }
    const pulled = await pull(files, options())
    expect(pulled).toEqual({
      ...files,
      transformer: join(cacheDir, FOLDER, 'snapshots', hub.commit(SCHNELL), 'flux1-schnell-Q4_K_S.gguf'),
    })
  })

  test('a repository as diffusers lays it out', async () => {
    hub.add('maker/flux', {
      'model_index.json': Buffer.from('{}'),
      'flux1.safetensors': BYTES,
      'transformer/diffusion_pytorch_model.safetensors': tiny('transformer.gguf'),
      'text_encoder/model.safetensors': tiny('clip.gguf'),
      'text_encoder/model.fp16.safetensors': BYTES,
      'text_encoder_2/model.safetensors': tiny('t5.gguf'),
      'vae/diffusion_pytorch_model.safetensors': tiny('vae.safetensors'),
      'tokenizer/vocab.json': tiny('vocab.json'),
      'tokenizer/merges.txt': tiny('merges.txt'),
      'tokenizer_2/spiece.model': Buffer.from('a vocabulary'),
    })
    const { tokenizers, ...parts } = await pull('hf:maker/flux', options())
    const inside = (path: string) => path.slice(path.indexOf('snapshots') + 'snapshots/'.length + 41)
    expect(Object.values(parts).map(inside)).toEqual([
      'transformer/diffusion_pytorch_model.safetensors',
      'text_encoder_2/model.safetensors',
      'text_encoder/model.safetensors',
      'vae/diffusion_pytorch_model.safetensors',
    ])
    expect([tokenizers!.t5!, tokenizers!.clip!].map(inside)).toEqual(['tokenizer_2', 'tokenizer'])
  })
})

describe('LoRAs, ControlNets and IP-Adapters by reference', () => {
  const STYLE = 'hf:a/styles:style.safetensors'
  const layer = 'lora_unet_double_blocks_0_img_attn_proj'
  let local: string

  beforeEach(async () => {
    const path = fileURLToPath(new URL('../../models/tiny/transformer.gguf', import.meta.url))
    const { hiddenSize } = (await openNetworkFile('flux', path)).config
    local = await loraFile(join(cacheDir, 'local.safetensors'), [
      tensorSource(`${layer}.lora_down.weight`, numbers([RANK, hiddenSize], 1, 0.3)),
      tensorSource(`${layer}.lora_up.weight`, numbers([hiddenSize, RANK], 2, 0.3)),
    ])
    hub.add('a/styles', { 'style.safetensors': readFileSync(local) })
  })

  test('a LoRA is downloaded once, then taken from the cache without any request, and draws what the file draws', async () => {
    const progress: [number, number][] = []
    const load = (more: object = {}) =>
      loadTiny({ hub: { ...options(), ...more }, onDownload: (...now) => progress.push(now) })
    const pipe = await load()
    const expected = await pipe.generate({ ...SMALL, loras: [{ path: local }] })
    expect(expected.equals(await pipe.generate(SMALL))).toBe(false)
    expect(hub.requests).toEqual([])
    const job = pipe.submit({ ...SMALL, loras: [{ path: STYLE }] })
    expect((await job.result).image.equals(expected)).toBe(true)
    expect((await job.result).parameters).toContain('LoRA: style 1,')
    const { length } = readFileSync(local)
    expect(progress.at(-1)).toEqual([length, length])

    hub.requests.length = 0
    expect((await pipe.generate({ ...SMALL, loras: [{ path: STYLE }] })).equals(expected)).toBe(true)
    await pipe.close()
    const offline = await load({ offline: true })
    expect((await offline.generate({ ...SMALL, loras: [{ path: STYLE }] })).equals(expected)).toBe(true)
    expect(hub.requests).toEqual([])
    const missing = offline.generate({ ...SMALL, loras: [{ path: 'hf:a/bytes:small.gguf' }] })
    await expect(missing).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringMatching(/not in the cache/),
    })
    await offline.close()
  }, 60_000)

  test('before any work, with the errors of files', async () => {
    const pipe = await loadTiny({ hub: options() })
    const image = { data: new Uint8Array(64 * 64 * 3), width: 64, height: 64 }
    const path = `hf:${SCHNELL}:Q8_0`
    const controlNets = [{ path, image }]
    const events: string[] = []
    const draw = async (more: object) => {
      for await (const event of pipe.stream({ ...SMALL, ...more })) events.push(event.type)
    }
    // it is a text encoder
    await expect(draw({ controlNets })).rejects.toThrow(/snapshots.*flux1-schnell-Q8_0\.gguf/)
    await expect(draw({ ipAdapters: [{ path: 'hf:a/bytes:Q4_0', image }] })).rejects.toThrow(
      /no file of the repository has 'Q4_0' in its name/,
    )
    await expect(draw({ hires: { upscaler: path } })).rejects.toThrow(
      /snapshots.*flux1-schnell-Q8_0\.gguf: this seems to be .*, not a network that enlarges/,
    )
    await expect(draw({ loras: [{ path: 'hf:no' }] })).rejects.toThrow(/^'hf:no' names nothing on the hub/)
    await expect(draw({ loras: [{ path: 'hf:no/body' }] })).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
    const stop = new AbortController()
    stop.abort(new Error('enough'))
    await expect(draw({ loras: [{ path: STYLE }], signal: stop.signal })).rejects.toThrow('enough')
    expect(events).toEqual([])
    hub.requests.length = 0
    const estimate = await pipe.estimate({ ...SMALL, controlNets: [{ path: 'hf:no/body', image }] })
    expect(estimate.operations.step).toBeGreaterThan(0)
    expect(hub.requests).toEqual([])
    await pipe.close()
  }, 60_000)
})

describe('a download', () => {
  const blob = () => join(cacheDir, 'models--a--bytes/blobs', createHash('sha256').update(BYTES).digest('hex'))
  const get = (more: object = {}) => pullFile('hf:a/bytes:bytes.gguf', { ...options(), ...more })

  test('goes on where the connection was cut', async () => {
    hub.mishaps.set('bytes.gguf', [{ cutAfter: 100_000 }])
    expect(readFileSync(await get()).equals(BYTES)).toBe(true)
    const [whole, rest] = bytesRequests().filter(({ server }) => server === 'storage')
    expect(whole!.range).toBeUndefined()
    const from = Number(/^bytes=(\d+)-299999$/.exec(rest!.range!)![1])
    expect(from).toBeGreaterThan(0)
    expect(from).toBeLessThanOrEqual(100_000)
  })

  test('goes on where another call was stopped, and leaves no file under a final name', async () => {
    const stop = new AbortController()
    const stopped = get({
      signal: stop.signal,
      onProgress: (done: number) => done > 0 && stop.abort(new Error('enough')),
    })
    await expect(stopped).rejects.toThrow('enough')
    expect(existsSync(blob())).toBe(false)
    const there = statSync(`${blob()}.incomplete`).size
    expect(there).toBeGreaterThan(0)
    hub.requests.length = 0
    expect(readFileSync(await get()).equals(BYTES)).toBe(true)
    if (there < BYTES.length) expect(bytesRequests().map(({ range }) => range)).toContain(`bytes=${there}-299999`)
    expect(readdirSync(join(blob(), '..'))).toEqual([basename(blob())])
  })

  test('waits when the hub asks for it', async () => {
    hub.mishaps.set('bytes.gguf', [{ status: 429, headers: { 'retry-after': '1' } }, { status: 503 }])
    const began = performance.now()
    expect(readFileSync(await get()).equals(BYTES)).toBe(true)
    expect(performance.now() - began).toBeGreaterThan(2500)
  }, 20_000)

  test('other bytes than promised are removed', async () => {
    hub.mishaps.set('bytes.gguf', [{ bytes: Buffer.alloc(BYTES.length) }])
    await expect(get()).rejects.toThrow(/has the hash [0-9a-f]{64}, not [0-9a-f]{64}, and was removed/)
    expect(readdirSync(join(blob(), '..'))).toEqual([])
    expect(readFileSync(await get()).equals(BYTES)).toBe(true)
  })

  test('a partial file with wrong bytes is found out at the end', async () => {
    hub.mishaps.set('bytes.gguf', [{ cutAfter: 10 }])
    await get()
    const path = blob()
    rmSync(path)
    writeFileSync(`${path}.incomplete`, Buffer.alloc(1000))
    await expect(get()).rejects.toThrow(/and was removed/)
    expect(readFileSync(await get()).equals(BYTES)).toBe(true)
  })

  test('a server that gives whole files only is not misunderstood', async () => {
    hub.mishaps.set('bytes.gguf', [{ cutAfter: 1000 }, { ignoreRange: true }])
    await expect(get()).rejects.toThrow(/does not give parts of files/)
  })

  test('many at once bring the file once', async () => {
    const paths = await Promise.all([get(), get(), get()])
    expect(new Set(paths).size).toBe(1)
    expect(readFileSync(paths[0]!).equals(BYTES)).toBe(true)
    expect(bytesRequests().filter(({ server }) => server === 'storage')).toHaveLength(1)
  })

  test('a changed file is taken by pull, not by who has it already', async () => {
    hub.add('a/changing', { 'm.gguf': BYTES })
    const before = await pullFile('hf:a/changing', options())
    hub.add('a/changing', { 'm.gguf': Buffer.concat([BYTES, BYTES]) })
    const after = await pullFile('hf:a/changing', options())
    expect([statSync(before).size, statSync(after).size]).toEqual([300_000, 600_000])
    const pinned = await pullFile(`hf:a/changing@${hub.commit('a/changing')}`, { ...options(), offline: true })
    expect(pinned).toBe(after)
  })
})

describe('refusals', () => {
  test('a licence that was not accepted', async () => {
    hub.gated.set('a/bytes', 'hf_right')
    const get = (token?: string) => pullFile('hf:a/bytes:bytes.gguf', { ...options(), ...(token ? { token } : {}) })
    const wanted = {
      code: 'FLUX_DOWNLOAD',
      message: expect.stringMatching(
        /its licence has to be accepted first. Do so at http.*\/a\/bytes, then run `hf auth login`, or set HF_TOKEN/,
      ),
    }
    await expect(get()).rejects.toMatchObject(wanted)
    await expect(get('hf_wrong')).rejects.toThrow(/give a token of the account that accepted/)
    hub.requests.length = 0
    expect(readFileSync(await get('hf_right')).equals(BYTES)).toBe(true)
    // the token goes to the hub, not to the storage that it redirects to
    const carried = (server: string) =>
      new Set(hub.requests.filter((request) => request.server === server).map(({ authorization }) => authorization))
    expect(carried('hub')).toEqual(new Set(['Bearer hf_right']))
    expect(carried('storage')).toEqual(new Set([undefined]))
  })

  test.each([
    ['hf:no/body', 'FLUX_NOT_FOUND', /there is no such repository, or it is private/],
    ['hf:a/bytes@v2', 'FLUX_NOT_FOUND', /no such revision/],
    [
      'hf:a/bytes:Q4_0',
      'FLUX_NOT_FOUND',
      /no file of the repository has 'Q4_0' in its name. There are bytes.gguf, small.gguf/,
    ],
    ['hf:a/bytes', 'FLUX_BAD_OPTION', /means several files: bytes.gguf, small.gguf/],
    ['bytes.gguf', 'FLUX_BAD_OPTION', /names nothing on the hub: give flux.1-schnell/],
  ])('%s', async (reference, code, message) => {
    await expect(pullFile(reference, options())).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  test('offline, and a hub that cannot be reached', async () => {
    await expect(pull('flux.1-schnell', { ...options(), offline: true })).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringMatching(/is not in the cache .*Run `ggflux pull/),
    })
    expect(hub.requests).toEqual([])
    const took = stopwatch()
    await expect(
      pull('flux.1-schnell', { cacheDir, endpoint: `http://127.0.0.1:${await freePort()}` }),
    ).rejects.toMatchObject({
      code: 'FLUX_DOWNLOAD',
      message: expect.stringMatching(/127.0.0.1:\d+ cannot be reached/),
    })
    expect(took()).toBeLessThan(5000)
  })

  test('a cache that cannot be written to', async () => {
    const file = join(cacheDir, 'a file')
    writeFileSync(file, '')
    await expect(pullFile('hf:a/bytes:bytes.gguf', { ...options(), cacheDir: file })).rejects.toMatchObject({
      code: 'FLUX_DOWNLOAD',
      message: expect.stringMatching(/a file cannot be written to \(ENOTDIR.*set HF_HUB_CACHE to another folder/),
    })
  })

  test('file names that leave the cache are not taken', async () => {
    hub.add('a/evil', {
      '../../../evil.gguf': BYTES,
      '/etc/evil.gguf': BYTES,
      'C:evil.gguf': BYTES,
      'fine.gguf': BYTES,
    })
    expect(basename(await pullFile('hf:a/evil', options()))).toBe('fine.gguf')
  })
})

describe('a model on the hub is inspected as load would take it', () => {
  let folder: string
  beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'ggflux-hub-inspect-'))))
  afterAll(() => rmSync(folder, { recursive: true }))
  const inspected = (source: Parameters<typeof inspectModel>[0]) =>
    inspectModel(source, { ...onTestBackend, hub: options() })
  const made = async (architecture: string, config: SynthOptions['config']) => {
    const path = join(folder, `${architecture}.safetensors`)
    await synthesize({ architecture, path, ...(config ? { config } : {}) })
    return readFileSync(path)
  }
  const WHOLE = {
    'transformer/diffusion_pytorch_model.safetensors': tiny('transformer.gguf'),
    'text_encoder/model.safetensors': tiny('clip.gguf'),
    'text_encoder_2/model.gguf': tiny('t5.gguf'),
    'vae/diffusion_pytorch_model.safetensors': tiny('vae.safetensors'),
    'tokenizer/vocab.json': tiny('vocab.json'),
    'tokenizer/merges.txt': tiny('merges.txt'),
  }

  test('a preset, and one file with its companions; with what a picture costs once it is in the cache', async () => {
    for (const source of ['flux.1-schnell', `hf:${SCHNELL}:Q4_K_S`]) {
      const { files, problems, image } = await inspected(source)
      expect(files.map(({ role }) => role)).toEqual(['transformer', 't5', 'clip', 'autoencoder'])
      expect([problems, image]).toEqual([[], undefined])
    }
    expect(readdirSync(cacheDir)).toEqual([])
    await pull('flux.1-schnell', options())
    hub.requests.length = 0
    expect(await inspected('flux.1-schnell')).toMatchObject({ problems: [], image: { width: 128, steps: 8 } })
    expect(hub.requests).toEqual([])
  })

  test('networks that do not fit each other, on the hub and in the cache', async () => {
    const other = await made('flux-tiny', { inChannels: 192, contextInDim: 128, depth: 1, depthSingleBlocks: 1 })
    hub.add('YarvixPA/FLUX.1-Fill-dev-GGUF', { 'flux1-fill-dev-Q4_K_S.gguf': other })
    const wrong = [expect.stringMatching(/takes 192 channels.*Fill 384/)]
    expect((await inspected('flux.1-fill-dev')).problems).toEqual(wrong)
    await pull('flux.1-fill-dev', options())
    const { problems, image } = await inspectModel('flux.1-fill-dev', { hub: { cacheDir, offline: true } })
    expect([problems, image]).toEqual([wrong, undefined])
  })

  test('a Fill model is inspected without the images that it needs to draw', async () => {
    const fill = await made('flux-tiny', { inChannels: 384, contextInDim: 128, depth: 1, depthSingleBlocks: 1 })
    hub.add('YarvixPA/FLUX.1-Fill-dev-GGUF', { 'flux1-fill-dev-Q4_K_S.gguf': fill })
    await pull('flux.1-fill-dev', options())
    expect(await inspected('flux.1-fill-dev')).toMatchObject({ problems: [], image: { width: 1024, height: 1024 } })
  })

  test('a decoder for previews of other channels', async () => {
    hub.add('a/preview', { 'taef1.safetensors': await made('taef1', { zChannels: 4 }) })
    const local = (name: string) => fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url))
    const parts = {
      transformer: local('transformer.gguf'),
      t5: local('t5.gguf'),
      clip: local('clip.gguf'),
      vae: local('vae.safetensors'),
      tokenizers: { clip: local('') },
    }
    const { files, problems } = await inspected({ ...parts, previewDecoder: 'hf:a/preview' })
    expect(files.map(({ role }) => role)).toContain('preview decoder')
    expect(problems).toEqual([expect.stringMatching(/takes 4 channels, and the transformer gives 16/)])
    // load tells it before the download
    await expect(FluxPipeline.load({ ...parts, previewDecoder: 'hf:a/preview' }, { hub: options() })).rejects.toThrow(
      /takes 4 channels/,
    )
    expect(readdirSync(cacheDir)).toEqual([])
  })

  test('a repository as diffusers lays it out, named as a whole', async () => {
    hub.add('maker/whole', { ...WHOLE, 'tokenizer_2/spiece.model': Buffer.from('a vocabulary') })
    const { files, problems } = await inspected('hf:maker/whole')
    expect(files.map(({ role }) => role)).toEqual(['transformer', 't5', 'clip', 'autoencoder'])
    expect(problems).toEqual([])
  })

  test('all that a repository lacks is told at once, by load as well', async () => {
    const { 'vae/diffusion_pytorch_model.safetensors': _, 'tokenizer/merges.txt': __, ...left } = WHOLE
    hub.add('maker/half', left)
    const { files, problems } = await inspected('hf:maker/half')
    expect(files.map(({ role }) => role)).toEqual(['transformer', 't5', 'clip'])
    const wanted = [
      /\(vae\/\).*has no .gguf or .safetensors/,
      /no tokenizer \(spiece.model, or tokenizer.json\)/,
      /no tokenizer \(vocab.json and merges.txt/,
    ]
    expect(problems).toEqual(wanted.map((message) => expect.stringMatching(message)))
    await expect(FluxPipeline.load('hf:maker/half', { hub: options() })).rejects.toThrow(
      /cannot be loaded, for 3 reasons/,
    )
  })

  test('a tokenizer of this machine that is missing', async () => {
    const parts = {
      transformer: `hf:${SCHNELL}:Q4_K_S`,
      t5: `hf:${T5}:Q8_0`,
      clip: 'hf:comfyanonymous/flux_text_encoders',
      vae: 'hf:Comfy-Org/Lumina_Image_2.0_Repackaged',
    }
    const { problems } = await inspected({ ...parts, tokenizers: { clip: join(folder, 'nowhere') } })
    expect(problems).toEqual([expect.stringMatching(/no tokenizer at .*nowhere/)])
  })

  test('options: those of load; an aborted signal ends it', async () => {
    await expect(inspectModel('flux.1-schnell', { hub: { cacheDir, offline: true } })).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
    })
    expect(hub.requests).toEqual([])
    const stop = new AbortController()
    const stopped = inspectModel('flux.1-schnell', { hub: options(), signal: stop.signal })
    stop.abort(new Error('enough'))
    await expect(stopped).rejects.toThrow('enough')
    await expect(inspectModel('tiny', { threads: 0 })).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })
})

describe('revisions in the cache', () => {
  const ref = (repository: string) =>
    readFileSync(join(cacheDir, `models--${repository.replace('/', '--')}/refs/main`), 'utf8')
  const offline = (onWarning: (message: string) => void = () => {}) => ({ cacheDir, offline: true, onWarning })

  test('a revision is noted when its files are there, not when somebody looks at it or stops', async () => {
    hub.add('a/moving', { 'm.gguf': tiny('transformer.gguf') })
    const [before, old] = [await pullFile('hf:a/moving', options()), hub.commit('a/moving')]
    hub.add('a/moving', { 'm.gguf': Buffer.concat([tiny('transformer.gguf'), Buffer.alloc(1000)]) })
    const took = stopwatch()
    await expect(
      pullFile('hf:a/moving', {
        ...options(),
        onProgress: () => {
          throw new Error('stopped')
        },
      }),
    ).rejects.toThrow('stopped')
    // what the caller throws is no cut connection, after which it would be tried again
    expect(took()).toBeLessThan(900)
    expect(ref('a/moving')).toBe(old)
    expect(await pullFile('hf:a/moving', offline())).toBe(before)
    const after = await pullFile('hf:a/moving', options())
    expect(ref('a/moving')).toBe(hub.commit('a/moving'))
    expect(await pullFile('hf:a/moving', offline())).toBe(after)
  })

  test('where the noted one is not whole, the newest that is does offline, with a warning', async () => {
    hub.add('a/half', { 'm.gguf': tiny('transformer.gguf') })
    const older = await pullFile('hf:a/half', options())
    const aged = hub.commit('a/half')
    hub.add('a/half', { 'm.gguf': Buffer.concat([tiny('transformer.gguf'), Buffer.alloc(32)]) })
    const newer = await pullFile('hf:a/half', options())
    utimesSync(join(cacheDir, 'models--a--half/snapshots', aged), 1, 1)
    // Python notes the commit before the files are there; a stop then leaves this
    const noted = 'c'.repeat(40)
    const root = join(cacheDir, 'models--a--half')
    mkdirSync(join(root, 'snapshots', noted))
    writeFileSync(join(root, 'refs/main'), noted)
    writeFileSync(join(root, 'snapshots', noted, 'README.md'), 'a model')
    const warnings: string[] = []
    expect(
      await pullFile(
        'hf:a/half',
        offline((message) => warnings.push(message)),
      ),
    ).toBe(newer)
    expect(warnings).toEqual([expect.stringContaining(`those of revision ${hub.commit('a/half')} are used`)])
    // a commit that is named is that commit
    expect(await pullFile(`hf:a/half@${aged}`, offline())).toBe(older)
    await expect(pullFile(`hf:a/half@${noted}`, offline())).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
    // a hub that cannot be reached is as good as none; one that can be reached is asked
    const unreachable = { cacheDir, endpoint: `http://127.0.0.1:${await freePort()}`, onWarning: () => {} }
    const local = (name: string) => fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url))
    const files = {
      transformer: 'hf:a/half',
      t5: local('t5.gguf'),
      clip: local('clip.gguf'),
      vae: local('vae.safetensors'),
      tokenizers: { clip: local('') },
    }
    expect((await readHubModel(files, unreachable)).files?.transformer).toBe(newer)
    hub.requests.length = 0
    await readHubModel(files, options())
    expect(hub.requests).not.toEqual([])
  })

  test('by default the warning is one of the process', async () => {
    hub.add('a/warned', { 'm.gguf': BYTES })
    await pullFile('hf:a/warned', options())
    writeFileSync(join(cacheDir, 'models--a--warned/refs/main'), 'c'.repeat(40))
    const warned = once(process, 'warning')
    await pullFile('hf:a/warned', { cacheDir, offline: true })
    expect((await warned)[0]).toMatchObject({ name: 'FluxWarning', message: expect.stringContaining('hf:a/warned') })
  })

  test('whatever stops the writing of a ref, refs holds nothing else', async () => {
    hub.add('a/refs', { 'm.gguf': BYTES })
    // a folder in the ref's place makes the last step fail, as a kill would
    const refs = join(cacheDir, 'models--a--refs/refs')
    mkdirSync(join(refs, 'main/x'), { recursive: true })
    await expect(pullFile('hf:a/refs', options())).rejects.toMatchObject({ code: 'FLUX_DOWNLOAD' })
    expect(readdirSync(refs)).toEqual(['main'])
  })

  test('what @huggingface/hub has put there is found: each file in a snapshot of its own, and no ref', async () => {
    const debug = vi.spyOn(console, 'debug').mockImplementation(() => {})
    const places = { transformer: 'transformer.gguf', t5: 't5.gguf', clip: 'clip.gguf', vae: 'vae.safetensors' }
    const names = [...Object.values(places), 'vocab.json', 'merges.txt']
    hub.add('a/spread', Object.fromEntries(names.map((name) => [name, tiny(name)])))
    for (const path of names) await downloadFileToCacheDir({ repo: 'a/spread', path, cacheDir, hubUrl: hub.endpoint })
    debug.mockRestore()
    const root = join(cacheDir, 'models--a--spread')
    expect(readdirSync(join(root, 'snapshots')).sort()).toEqual(
      names.map((name) => lastChange(name, tiny(name))).sort(),
    )
    expect(existsSync(join(root, 'refs'))).toBe(false)

    const source = {
      ...Object.fromEntries(Object.entries(places).map(([part, name]) => [part, `hf:a/spread:${name}`])),
      tokenizers: { clip: 'hf:a/spread' },
    }
    const pipe = await FluxPipeline.load(source as never, { ...onTestBackend, hub: { cacheDir, offline: true } })
    await pipe.close()
    hub.requests.length = 0
    const { problems, image } = await inspectModel(source as never, { ...onTestBackend, hub: options() })
    expect([problems, image?.width, hub.requests]).toEqual([[], 128, []])
    expect((await cachedModels({ cacheDir })).map(({ reference }) => reference).sort()).toEqual(
      Object.values(source)
        .filter((reference) => typeof reference === 'string')
        .sort(),
    )
    expect(await removeCached('hf:a/spread:t5.gguf', { cacheDir })).toBe(tiny('t5.gguf').length)
  }, 30_000)

  test('files of a listing that reads as one are taken from one snapshot that has them all', async () => {
    const root = join(cacheDir, 'models--a--mixed/snapshots')
    const put = (commit: string, name: string, time: number) => {
      const path = join(root, commit.repeat(40), name)
      mkdirSync(join(path, '..'), { recursive: true })
      writeFileSync(path, tiny(name))
      utimesSync(path, time, time)
    }
    put('a', 'vocab.json', 100)
    put('a', 'merges.txt', 100)
    put('b', 'vocab.json', 200)
    const local = (name: string) => fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url))
    const files = {
      transformer: local('transformer.gguf'),
      t5: local('t5.gguf'),
      clip: local('clip.gguf'),
      vae: local('vae.safetensors'),
      tokenizers: { clip: 'hf:a/mixed' },
    }
    expect((await pull(files, offline())).tokenizers).toEqual({ clip: join(root, 'a'.repeat(40)) })
    expect(readdirSync(join(root, 'b'.repeat(40)))).toEqual(['vocab.json'])
  })
})

describe('the cache', () => {
  test('is listed and emptied', async () => {
    await pull('flux.1-schnell', options())
    await pullFile('hf:a/bytes:bytes.gguf', options())
    const models = await cachedModels({ cacheDir })
    expect(models.map(({ reference, role }) => [reference, role])).toEqual([
      ['hf:Comfy-Org/Lumina_Image_2.0_Repackaged:split_files/vae/ae.safetensors', 'autoencoder'],
      ['hf:city96/FLUX.1-schnell-gguf:flux1-schnell-Q4_K_S.gguf', 'transformer'],
      ['hf:city96/t5-v1_1-xxl-encoder-gguf:t5-v1_1-xxl-encoder-Q8_0.gguf', 't5'],
      ['hf:comfyanonymous/flux_text_encoders:clip_l.safetensors', 'clip'],
    ])
    const { reference, size, path } = models[1]!
    expect(size).toBe(tiny('transformer.gguf').length)
    expect(await removeCached(reference, { cacheDir })).toBe(size)
    expect(existsSync(path)).toBe(false)
    expect(readdirSync(join(cacheDir, FOLDER, 'blobs'))).toEqual([])
    await expect(removeCached(reference, { cacheDir })).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
    expect(await removeCached(`hf:${T5}`, { cacheDir })).toBe(tiny('t5.gguf').length)
    expect(existsSync(join(cacheDir, 'models--city96--t5-v1_1-xxl-encoder-gguf'))).toBe(false)
    expect(await cachedModels({ cacheDir })).toHaveLength(2)
  })

  test('bytes that another file of the repository uses stay', async () => {
    hub.add('a/twice', { 'one.gguf': BYTES, 'two.gguf': BYTES })
    await pullFile('hf:a/twice:one.gguf', options())
    const two = await pullFile('hf:a/twice:two.gguf', options())
    expect(await removeCached('hf:a/twice:one.gguf', { cacheDir })).toBe(0)
    expect(readFileSync(two).equals(BYTES)).toBe(true)
  })

  test('of a preset its own file is removed; other quantisations and what other programs put there stay', async () => {
    const [usual, other, notes] = await Promise.all(
      ['Q4_K_S', 'Q8_0', 'README.md'].map((which) => pullFile(`hf:${SCHNELL}:${which}`, options())),
    )
    const stranger = join(cacheDir, FOLDER, 'blobs/bytes that somebody is about to link')
    writeFileSync(stranger, 'bytes')
    expect(await removeCached('flux.1-schnell', { cacheDir })).toBe(tiny('transformer.gguf').length)
    expect([usual!, other!, notes!, stranger].map((path) => existsSync(path))).toEqual([false, true, true, true])
    expect(await removeCached('flux.1-schnell:Q8_0', { cacheDir })).toBe(tiny('clip.gguf').length)
    expect([other!, notes!].map((path) => existsSync(path))).toEqual([false, true])
    await expect(removeCached('flux.1-schnell', { cacheDir })).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
    expect(await removeCached(`hf:${SCHNELL}`, { cacheDir })).toBeGreaterThan(0)
    expect(existsSync(join(cacheDir, FOLDER))).toBe(false)
  })

  test('a file is removed from all revisions, or from the one that is named', async () => {
    const name = 'm-Q4_K_S.gguf'
    hub.add('a/revisions', { [name]: BYTES, 'other.gguf': Buffer.from('1') })
    const take = async () => {
      await pullFile('hf:a/revisions:other.gguf', options())
      return pullFile(`hf:a/revisions:${name}`, options())
    }
    const [first, commit] = [await take(), hub.commit('a/revisions')]
    hub.add('a/revisions', { 'other.gguf': Buffer.from('22') })
    const second = await take()
    // the other one needs the bytes
    expect(await removeCached(`hf:a/revisions@${commit}:${name}`, { cacheDir })).toBe(0)
    expect([first, second].map((path) => existsSync(path))).toEqual([false, true])
    await take()
    expect(await removeCached(`hf:a/revisions@${commit}`, { cacheDir })).toBe(1)
    expect(existsSync(second)).toBe(true)
    hub.add('a/revisions', { 'other.gguf': Buffer.from('333') })
    const third = await take()
    expect(await removeCached('hf:a/revisions:Q4_K_S', { cacheDir })).toBe(BYTES.length)
    expect([second, third].map((path) => existsSync(path))).toEqual([false, false])
    expect(readdirSync(join(cacheDir, 'models--a--revisions/blobs'))).toHaveLength(2)
  })

  test('an older revision is listed under its commit', async () => {
    hub.add('a/listed', { 'm.gguf': tiny('transformer.gguf'), 'README.md': Buffer.from('1') })
    await pullFile('hf:a/listed', options())
    const commit = hub.commit('a/listed')
    hub.add('a/listed', { 'README.md': Buffer.from('2') })
    await pullFile('hf:a/listed', options())
    const references = (await cachedModels({ cacheDir })).map(({ reference }) => reference)
    expect(references.sort()).toEqual(['hf:a/listed:m.gguf', `hf:a/listed@${commit}:m.gguf`])
  })

  test('nothing is removed below a download', async () => {
    hub.mishaps.set('bytes.gguf', [{ cutAfter: 1000 }, { status: 404 }])
    await expect(pullFile('hf:a/bytes:bytes.gguf', options())).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
    const lock = join(cacheDir, '.locks/models--a--bytes', `${createHash('sha256').update(BYTES).digest('hex')}.lock`)
    await withFileLock(lock, undefined, async () => {
      await expect(removeCached('hf:a/bytes', { cacheDir })).rejects.toMatchObject({ code: 'FLUX_BUSY' })
    })
    expect(await removeCached('hf:a/bytes', { cacheDir })).toBeGreaterThan(0)
  })

  test('none yet', async () => {
    expect(await cachedModels({ cacheDir: join(cacheDir, 'nowhere') })).toEqual([])
  })
})

describe('the commands', () => {
  const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
  const env = () => ({
    ...process.env,
    HF_ENDPOINT: hub.endpoint,
    HF_HUB_CACHE: cacheDir,
    HF_TOKEN: '',
    HF_HUB_OFFLINE: '',
  })
  const ggflux = (...args: string[]) =>
    promisify(execFile)(process.execPath, [program, ...args], { env: env(), cwd: cacheDir })

  test('pull, list, generate, rm', async () => {
    const pulled = (await ggflux('pull', 'flux.1-schnell')).stdout
    expect(pulled).toMatch(/^transformer +\/.*flux1-schnell-Q4_K_S.gguf$/m)
    expect(pulled).toMatch(/^[\d.]+ MB in /m)
    expect((await ggflux('pull', 'flux.1-schnell')).stdout).toMatch(/all was there already/)
    const [listed, json] = [(await ggflux('list')).stdout, (await ggflux('list', '--json')).stdout]
    expect(listed).toMatch(/^hf:city96\/FLUX.1-schnell-gguf:flux1-schnell-Q4_K_S.gguf +transformer/m)
    expect(listed).toMatch(/^4 files, /m)
    expect(JSON.parse(json)).toHaveLength(4)
    expect((await ggflux('inspect', 'flux.1-schnell')).stdout).toMatch(/flux1-schnell-Q4_K_S.gguf$/m)
    await ggflux(
      'generate',
      'a red circle',
      '--model',
      'flux.1-schnell',
      '--steps',
      '1',
      '--width',
      '64',
      '--height',
      '64',
      '-o',
      'out.png',
    )
    expect(readFileSync(join(cacheDir, 'out.png')).subarray(1, 4).toString()).toBe('PNG')
    const layer = 'lora_unet_double_blocks_99_img_attn_proj'
    const style = await loraFile(join(cacheDir, 'style.safetensors'), [
      tensorSource(`${layer}.lora_down.weight`, numbers([RANK, 64], 1)),
    ])
    hub.add('a/other', { 'style.safetensors': readFileSync(style) })
    const reference = ['--lora', 'hf:a/other:style.safetensors:0.5']
    await expect(ggflux('generate', 'a red circle', ...reference, '-o', 'out.png')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/models--a--other.*style\.safetensors: none of its 1 tensors belongs/),
    })
    expect((await ggflux('rm', 'flux.1-schnell')).stdout).toMatch(
      /^removed hf:city96\/FLUX.1-schnell-gguf:flux1-schnell-Q4_K_S.gguf\nflux.1-schnell: [\d.]+ MB are free again$/m,
    )
    await expect(ggflux('rm', 'flux.1-schnell')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/is not in the cache/),
    })
  }, 60_000)

  test('inspect: a repository is a model, one file in it a file', async () => {
    const model = (await ggflux('inspect', `hf:${SCHNELL}`)).stdout
    for (const role of ['transformer', 't5', 'clip', 'autoencoder'])
      expect(model).toMatch(new RegExp(`role +${role}$`, 'm'))
    const file = (await ggflux('inspect', `hf:${T5}:Q8_0`)).stdout
    expect(file.match(/role +\w+$/gm)).toEqual([expect.stringMatching(/t5$/)])
  })

  test('one file, and its path for scripts', async () => {
    const { stdout } = await ggflux('pull', 'hf:a/bytes:bytes.gguf', '--only', '--json')
    expect(readFileSync(JSON.parse(stdout) as string).equals(BYTES)).toBe(true)
  })

  test('killed in the middle, the next call goes on', async () => {
    const [long, hash] = [Buffer.concat(Array(200).fill(BYTES)), createHash('sha256')]
    hub.add('a/long', { 'long.gguf': long })
    const incomplete = join(cacheDir, 'models--a--long/blobs', `${hash.update(long).digest('hex')}.incomplete`)
    const child = spawn(process.execPath, [program, 'pull', 'hf:a/long', '--only'], { env: env(), stdio: 'ignore' })
    while (!(statSync(incomplete, { throwIfNoEntry: false })?.size ?? 0))
      await new Promise((resolve) => setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(existsSync(incomplete)).toBe(true)
    hub.requests.length = 0
    expect(readFileSync(await pullFile('hf:a/long', options())).equals(long)).toBe(true)
    expect(bytesRequests().find(({ server }) => server === 'storage')?.range ?? 'bytes=0-').not.toMatch(/^bytes=0-/)
  }, 30_000)
})
