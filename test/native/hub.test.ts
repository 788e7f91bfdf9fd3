import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { withFileLock } from '../../lib/hub/file-lock.js'
import { headersFromHub } from '../../lib/hub/pull.js'
import { cachedModels, FluxPipeline, pull, pullFile, removeCached } from '../../lib/index.js'
import { describeFile } from '../../lib/inspect.js'
import { FakeHub } from '../support/hub.js'
import { freePort } from '../support/rpc-server.js'
import { loadTiny, ONE_THREAD, SMALL } from '../support/tiny.js'

const tiny = (name: string) => readFileSync(fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url)))
const SCHNELL = 'city96/FLUX.1-schnell-gguf'
const FOLDER = 'models--city96--FLUX.1-schnell-gguf'
const T5 = 'city96/t5-v1_1-xxl-encoder-gguf'
/** large enough for large-file storage, small enough to be quick */
const BYTES = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) % 256))

let hub: FakeHub
let cacheDir: string
const options = () => ({ cacheDir, endpoint: hub.endpoint })
const bytesRequests = () => hub.requests.filter(({ url, range }) => url.includes('.gguf') && range !== 'bytes=0-0' && !url.includes('/api/'))

beforeAll(async () => {
  hub = await FakeHub.start()
  hub.add(SCHNELL, { 'README.md': Buffer.from('a model'), 'flux1-schnell-Q4_K_S.gguf': tiny('transformer.gguf'), 'flux1-schnell-Q8_0.gguf': tiny('clip.gguf') })
  hub.add(T5, { 't5-v1_1-xxl-encoder-Q8_0.gguf': tiny('t5.gguf'), 't5-v1_1-xxl-encoder-Q4_K_S.gguf': BYTES })
  hub.add('comfyanonymous/flux_text_encoders', { 'clip_l.safetensors': tiny('clip.gguf') })
  hub.add('Comfy-Org/Lumina_Image_2.0_Repackaged', { 'split_files/vae/ae.safetensors': tiny('vae.safetensors') })
  hub.add('openai/clip-vit-large-patch14', { 'vocab.json': tiny('vocab.json'), 'merges.txt': tiny('merges.txt'), 'model.safetensors': BYTES })
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
      const pipe = await FluxPipeline.load('flux.1-schnell', { ...ONE_THREAD, hub: { ...options(), ...hubOptions }, ...(onDownload ? { onDownload } : {}) })
      const image = await pipe.generate(SMALL)
      await pipe.close()
      return image
    }
    const image = await draw({}, (...now) => progress.push(now))
    const pipe = await loadTiny()
    expect(image.equals(await pipe.generate(SMALL))).toBe(true)
    await pipe.close()

    const sizes = ['transformer.gguf', 't5.gguf', 'clip.gguf', 'vae.safetensors', 'vocab.json', 'merges.txt'].map((name) => tiny(name).length)
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
    await expect(pull(`hf:${SCHNELL}:Q8_0`, options())).rejects.toThrow(/flux1-schnell-Q8_0.gguf\): this seems to be a CLIP text encoder, not a FLUX transformer/)
    expect(readdirSync(cacheDir).flatMap((name) => (existsSync(join(cacheDir, name, 'blobs')) ? [name] : []))).toEqual([])
  })

  test('is inspected where it lies', async () => {
    const headers = await headersFromHub(`hf:${SCHNELL}:Q4_K_S`, options())
    expect(headers.map(({ path, size }) => [path, size])).toEqual([[`hf:${SCHNELL}:Q4_K_S (flux1-schnell-Q4_K_S.gguf)`, tiny('transformer.gguf').length]])
    const kinds = (await headersFromHub('flux.1-schnell', options())).map((file) => describeFile(file))
    expect(kinds.map(({ role, problems }) => [role, problems])).toEqual([['transformer', []], ['t5', []], ['clip', []], ['autoencoder', []]])
    expect(bytesRequests().every(({ range }) => range !== undefined)).toBe(true)
    expect(readdirSync(cacheDir).some((name) => existsSync(join(cacheDir, name, 'blobs')))).toBe(false)
  })

  test('parts on the hub and on this machine', async () => {
    const local = (name: string) => fileURLToPath(new URL(`../../models/tiny/${name}`, import.meta.url))
    const files = { transformer: `hf:${SCHNELL}:Q4_K_S`, t5: local('t5.gguf'), clip: local('clip.gguf'), vae: local('vae.safetensors'), tokenizers: { clip: local('') } }
    const pulled = await pull(files, options())
    expect(pulled).toEqual({ ...files, transformer: join(cacheDir, FOLDER, 'snapshots', hub.commit(SCHNELL), 'flux1-schnell-Q4_K_S.gguf') })
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
      'transformer/diffusion_pytorch_model.safetensors', 'text_encoder_2/model.safetensors', 'text_encoder/model.safetensors', 'vae/diffusion_pytorch_model.safetensors',
    ])
    expect([tokenizers!.t5!, tokenizers!.clip!].map(inside)).toEqual(['tokenizer_2', 'tokenizer'])
  })
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
    const stopped = get({ signal: stop.signal, onProgress: (done: number) => done > 0 && stop.abort(new Error('enough')) })
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
    const wanted = { code: 'FLUX_DOWNLOAD', message: expect.stringMatching(/its licence has to be accepted first. Do so at http.*\/a\/bytes, then run `hf auth login`, or set HF_TOKEN/) }
    await expect(get()).rejects.toMatchObject(wanted)
    await expect(get('hf_wrong')).rejects.toThrow(/give a token of the account that accepted/)
    hub.requests.length = 0
    expect(readFileSync(await get('hf_right')).equals(BYTES)).toBe(true)
    // the token goes to the hub, not to the storage that it redirects to
    const carried = (server: string) => new Set(hub.requests.filter((request) => request.server === server).map(({ authorization }) => authorization))
    expect(carried('hub')).toEqual(new Set(['Bearer hf_right']))
    expect(carried('storage')).toEqual(new Set([undefined]))
  })

  test.each([
    ['hf:no/body', 'FLUX_NOT_FOUND', /there is no such repository, or it is private/],
    ['hf:a/bytes@v2', 'FLUX_NOT_FOUND', /no such revision/],
    ['hf:a/bytes:Q4_0', 'FLUX_NOT_FOUND', /no file of the repository has 'Q4_0' in its name. There are bytes.gguf, small.gguf/],
    ['hf:a/bytes', 'FLUX_BAD_OPTION', /means several files: bytes.gguf, small.gguf/],
    ['bytes.gguf', 'FLUX_BAD_OPTION', /names nothing on the hub: give flux.1-schnell/],
  ])('%s', async (reference, code, message) => {
    await expect(pullFile(reference, options())).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  test('offline, and a hub that cannot be reached', async () => {
    await expect(pull('flux.1-schnell', { ...options(), offline: true })).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringMatching(/is not in the cache .*Run `ggflux pull/),
    })
    expect(hub.requests).toEqual([])
    const began = performance.now()
    await expect(pull('flux.1-schnell', { cacheDir, endpoint: `http://127.0.0.1:${await freePort()}` })).rejects.toMatchObject({
      code: 'FLUX_DOWNLOAD',
      message: expect.stringMatching(/127.0.0.1:\d+ cannot be reached/),
    })
    expect(performance.now() - began).toBeLessThan(5000)
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
    hub.add('a/evil', { '../../../evil.gguf': BYTES, '/etc/evil.gguf': BYTES, 'C:evil.gguf': BYTES, 'fine.gguf': BYTES })
    expect(basename(await pullFile('hf:a/evil', options()))).toBe('fine.gguf')
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
  const env = () => ({ ...process.env, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cacheDir, HF_TOKEN: '', HF_HUB_OFFLINE: '' })
  const ggflux = (...args: string[]) => promisify(execFile)(process.execPath, [program, ...args], { env: env(), cwd: cacheDir })

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
    await ggflux('generate', 'a red circle', '--model', 'flux.1-schnell', '--steps', '1', '--width', '64', '--height', '64', '-o', 'out.png')
    expect(readFileSync(join(cacheDir, 'out.png')).subarray(1, 4).toString()).toBe('PNG')
    expect((await ggflux('rm', 'flux.1-schnell')).stdout).toMatch(/are free again/)
    await expect(ggflux('rm', 'flux.1-schnell')).rejects.toMatchObject({ code: 1, stderr: expect.stringMatching(/is not in the cache/) })
  }, 60_000)

  test('one file, and its path for scripts', async () => {
    const { stdout } = await ggflux('pull', 'hf:a/bytes:bytes.gguf', '--only', '--json')
    expect(readFileSync(JSON.parse(stdout) as string).equals(BYTES)).toBe(true)
  })

  test('killed in the middle, the next call goes on', async () => {
    const [long, hash] = [Buffer.concat(Array(200).fill(BYTES)), createHash('sha256')]
    hub.add('a/long', { 'long.gguf': long })
    const incomplete = join(cacheDir, 'models--a--long/blobs', `${hash.update(long).digest('hex')}.incomplete`)
    const child = spawn(process.execPath, [program, 'pull', 'hf:a/long', '--only'], { env: env(), stdio: 'ignore' })
    while (!(statSync(incomplete, { throwIfNoEntry: false })?.size ?? 0)) await new Promise((resolve) => setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(existsSync(incomplete)).toBe(true)
    hub.requests.length = 0
    expect(readFileSync(await pullFile('hf:a/long', options())).equals(long)).toBe(true)
    expect(bytesRequests().find(({ server }) => server === 'storage')?.range ?? 'bytes=0-').not.toMatch(/^bytes=0-/)
  }, 30_000)
})
