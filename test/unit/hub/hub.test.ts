import { describe, expect, test } from 'vitest'
import { families } from '../../../lib/families/registry.js'
import { findPreset, presetNames, presetReference } from '../../../lib/hub/presets.js'
import { isSafePath, parseReference } from '../../../lib/hub/reference.js'
import { selectModel, selectTokenizer } from '../../../lib/hub/select.js'
import { hubSettings } from '../../../lib/hub/settings.js'

describe('references', () => {
  test.each([
    ['hf:owner/name', { repository: 'owner/name', revision: 'main' }],
    ['hf:city96/FLUX.1-dev-gguf:Q4_K_S', { repository: 'city96/FLUX.1-dev-gguf', revision: 'main', which: 'Q4_K_S' }],
    ['hf:a/b@refs/pr/1:vae/ae.safetensors', { repository: 'a/b', revision: 'refs/pr/1', which: 'vae/ae.safetensors' }],
  ])('%s', (text, wanted) => expect(parseReference(text)).toEqual({ text, ...wanted }))

  test.each([
    'hf:',
    'hf:name',
    'hf:a/b/c',
    'hf:../b',
    'hf:a/..',
    'hf:a/.git',
    'hf:a--b/c',
    'hf:a/b@../x',
    'hf:a/b:../../x',
    'hf:a/b:/etc/passwd',
    'hf:a/b:c\\d',
    'hf:a/b:',
  ])('refused: %s', (text) =>
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'FLUX_BAD_OPTION' })),
  )

  test('presets', () => {
    expect(presetReference('flux.1-dev')).toBe('hf:city96/FLUX.1-dev-gguf')
    expect(presetReference('FLUX.1-schnell:Q8_0')).toBe('hf:city96/FLUX.1-schnell-gguf:Q8_0')
    expect(presetReference('FLUX.1-Redux-dev')).toBe('hf:Runware/FLUX.1-Redux-dev:flux1-redux-dev.safetensors')
    for (const none of ['flux', 'constructor', 'flux.1-dev:a:b', './flux.1-dev', 'flux.1-redux-dev:Q8_0'])
      expect(presetReference(none), none).toBeUndefined()
  })

  test.each(presetNames())('the preset %s names a repository, or a model file in one', (name) => {
    const { reference, isFile, needs } = findPreset(name)!
    expect(name).toBe(name.toLowerCase())
    const { which } = parseReference(reference)
    if (isFile) expect(which).toMatch(/\.(safetensors|gguf)$/)
    else expect(which).toBeUndefined()
    for (const other of Object.values(needs)) expect(findPreset(other)).toMatchObject({ isFile: true, needs: {} })
  })

  test('a name belongs to one preset, and what files need are components', () => {
    expect(new Set(presetNames()).size).toBe(presetNames().length)
    for (const { presets, components } of families())
      for (const [name, needs] of Object.entries(presets.needs)) {
        expect(findPreset(name)?.isFile).toBe(true)
        for (const component of Object.keys(needs)) expect(Object.keys(components)).toContain(component)
      }
  })

  test.each(['../a', 'a/../b', '/a', 'a//b', 'a\\b', 'C:a', '.', 'a/.', 'a\0b', ''])('no safe path: %j', (path) =>
    expect(isSafePath(path)).toBe(false),
  )
})

describe('which file of a repository', () => {
  const repository = (...paths: string[]) => ({
    reference: parseReference('hf:a/b'),
    commit: '',
    folder: '',
    files: paths.map((path) => ({ path, size: 1, hash: '' })),
  })
  const select = (which: string | undefined, ...paths: string[]) => {
    const found = repository(...paths)
    return selectModel({ ...found, reference: { ...found.reference, ...(which === undefined ? {} : { which }) } }).map(
      ({ path }) => path,
    )
  }
  const QUANTISED = [
    'README.md',
    'flux1-dev-Q4_0.gguf',
    'flux1-dev-Q4_K_S.gguf',
    'flux1-dev-Q8_0.gguf',
    'flux1-dev-F16.gguf',
  ]

  test.each([
    ['a quantisation', 'Q8_0', QUANTISED, ['flux1-dev-Q8_0.gguf']],
    ['in small letters', 'q4_k_s', QUANTISED, ['flux1-dev-Q4_K_S.gguf']],
    ['a file', 'flux1-dev-F16.gguf', QUANTISED, ['flux1-dev-F16.gguf']],
    ['a path', 'vae/ae.safetensors', ['ae.safetensors', 'vae/ae.safetensors'], ['vae/ae.safetensors']],
    ['the usual one of several', undefined, QUANTISED, ['flux1-dev-Q4_K_S.gguf']],
    ['the only one', undefined, ['README.md', 'ae.safetensors'], ['ae.safetensors']],
    [
      'all parts',
      'm-00001-of-00002.gguf',
      ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf', 'n-00002-of-00002.gguf'],
      ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf'],
    ],
    [
      'an index with its parts',
      't/m.safetensors.index.json',
      ['t/m.safetensors.index.json', 't/m-00001-of-00001.safetensors', 'm-00001-of-00001.safetensors'],
      ['t/m.safetensors.index.json', 't/m-00001-of-00001.safetensors'],
    ],
  ] as const)('%s', (_, which, paths, wanted) => expect(select(which, ...paths)).toEqual(wanted))

  test.each([
    ['a part of a quantisation', 'Q4_K', QUANTISED, 'FLUX_NOT_FOUND', /There are flux1-dev-Q4_0.gguf/],
    ['none', 'Q3_K', ['README.md'], 'FLUX_NOT_FOUND', /has no .gguf or .safetensors file/],
    ['several', undefined, ['a.gguf', 'b.gguf'], 'FLUX_BAD_OPTION', /a.gguf, b.gguf/],
    ['a part is missing', 'm-00001-of-00002.gguf', ['m-00001-of-00002.gguf'], 'FLUX_NOT_FOUND', /1 of 2 parts/],
    ['an index alone', 'm.safetensors.index.json', ['m.safetensors.index.json'], 'FLUX_NOT_FOUND', /0 of 1 parts/],
  ] as const)('%s', (_, which, paths, code, message) => {
    expect(() => select(which, ...paths)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
  })

  test('a tokenizer at the root or in its folder', () => {
    const names = [['vocab.json', 'merges.txt'], ['tokenizer.json']]
    const select = (...paths: string[]) =>
      selectTokenizer(repository(...paths), 'tokenizer', names).map(({ path }) => path)
    expect(select('tokenizer.json', 'vocab.json', 'merges.txt')).toEqual(['vocab.json', 'merges.txt'])
    expect(select('vocab.json', 'tokenizer/tokenizer.json')).toEqual(['tokenizer/tokenizer.json'])
    expect(() => select('vocab.json')).toThrow(/no tokenizer \(vocab.json and merges.txt, or tokenizer.json\)/)
  })
})

describe('settings', () => {
  // the table of huggingface_hub's documentation, "Environment variables"
  test.each([
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ HF_HOME: '/h', XDG_CACHE_HOME: '/x' }, '/h/hub'],
    [{ HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [{ HF_HUB_CACHE: '/c', HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/old' }, '/c'],
  ])('the cache with %j', async (env, cacheDir) => expect((await hubSettings({}, env)).cacheDir).toBe(cacheDir))

  test('options go before the environment', async () => {
    const env = { HF_HUB_CACHE: '/c', HF_TOKEN: 'hf_env', HF_ENDPOINT: 'https://mirror.example/', HF_HUB_OFFLINE: '1' }
    expect(await hubSettings({}, env)).toEqual({
      cacheDir: '/c',
      token: 'hf_env',
      endpoint: 'https://mirror.example',
      offline: true,
    })
    const options = { cacheDir: '/o', token: 'hf_option', endpoint: 'http://other.example', offline: false }
    expect(await hubSettings(options, env)).toEqual(options)
  })

  test.each([
    [{ cacheDir: 3 }, 'hub.cacheDir is 3'],
    [{ token: 'a b' }, "hub.token is '…'"],
    [{ endpoint: 'ftp://a' }, "hub.endpoint is 'ftp://a'"],
    [{ offline: 'yes' }, "hub.offline is 'yes'"],
    [{ cache: '/x' }, 'there is no cache in hub'],
  ])('%j is refused', async (options, message) => {
    await expect(hubSettings(options as object, {})).rejects.toThrow(message)
  })
})
