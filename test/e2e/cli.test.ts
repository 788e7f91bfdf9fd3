import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { encodeImage, readParameters } from '../../lib/index.js'
import sharp from 'sharp'
import type { BenchResult } from '../../lib/cli/bench-result.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const root = mkdtempSync(join(tmpdir(), 'ggflux-cli-'))
const model = fileURLToPath(new URL('../../models/tiny', import.meta.url))
const env = { ...process.env, GGFLUX_DEBUG: undefined }
// two files of tests run at once: their processes would wait for each other's threads
const SMALL = ['--width', '64', '--height', '96', '--steps', '2', '--threads', '1']
const NO_SIGNALS = 'Windows ends a process at once instead of sending it a signal'
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

/** an empty folder for every test */
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(root, 'test-'))
})
afterAll(() => rmSync(root, { recursive: true }))

function ggflux(...args: string[]): { status: number | null; stdout: Buffer; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    cwd: folder,
    env,
    maxBuffer: 2 ** 26,
  })
  return { status, stdout, stderr: stderr.toString() }
}

const tiny = (file: string) => join(model, file)
const FILES = {
  transformer: tiny('transformer.gguf'),
  t5: tiny('t5.gguf'),
  clip: tiny('clip.gguf'),
  vae: tiny('vae.safetensors'),
}
const parts = (replaced: Partial<typeof FILES> = {}) =>
  Object.entries({ ...FILES, ...replaced }).flatMap(([part, path]) => [`--${part}`, path])
const read = (name: string) => readFileSync(join(folder, name))

/** one sentence beginning with the program's name, the exit code, and nothing else */
function expectFailure(result: ReturnType<typeof ggflux>, status: number, message: RegExp): void {
  expect(result.stderr).toMatch(message)
  expect(result.stderr).toMatch(/^ggflux: [^\n]+\n(\(Did you mean [^\n]+\)\n)?$/)
  expect(result.stdout.toString()).toBe('')
  expect(result.status).toBe(status)
  expect(readdirSync(folder).filter((name) => /partial|\.png$/.test(name))).toEqual([])
}

describe('help', () => {
  test('version and help come without the native part', () => {
    // a platform that no binary is for would fail if the addon were touched
    const broken = (...args: string[]) =>
      spawnSync(process.execPath, ['--no-addons', MAIN, ...args], { cwd: folder, env, encoding: 'utf8' })
    const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }
    expect(broken('--version').stdout).toBe(`${version}\n`)
    const { stdout, status } = broken('--help')
    expect(status).toBe(0)
    for (const name of [
      'generate',
      'bench',
      'devices',
      'inspect',
      'parameters',
      'rpc-server',
      'synth',
      'upscale',
      'worker',
    ])
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
    for (const file of ['flux1-schnell-Q4_0.gguf', 'ae.safetensors']) expect(stdout).toContain(file)
    expect(broken('devices').stderr).toMatch(/^ggflux: the native part of ggflux cannot be loaded/)
  })

  test.each(['generate', 'bench', 'devices', 'inspect', 'parameters', 'rpc-server', 'synth', 'upscale', 'worker'])(
    '%s --help ends with examples',
    (command) => {
      const { stdout, status } = ggflux(command, '--help')
      expect(status).toBe(0)
      expect(stdout.toString()).toMatch(new RegExp(`\\nExamples:\\n(  .*\\n)*  ggflux ${command} `))
    },
  )
})

describe('generate', () => {
  test('a picture of the right size that tells how it was made', async () => {
    const { status, stdout, stderr } = ggflux('generate', 'a red fox', '-o', 'fox.png', '--seed', '7', ...SMALL)
    expect(status).toBe(0)
    const { format, width, height, comments } = await sharp(read('fox.png')).metadata()
    expect({ format, width, height }).toEqual({ format: 'png', width: 64, height: 96 })
    expect(comments?.find(({ keyword }) => keyword === 'parameters')?.text).toMatch(
      /^a red fox\nSteps: 2, .*Seed: 7, Size: 64x96/,
    )
    expect(stdout.toString()).toMatch(
      /^fox\.png  64x96  seed 7  2 steps  [\d.]+ s \(text .*, load .*, 2 x .*, decode .*\)  peak memory/,
    )
    expect(stdout.toString()).toMatch(/peak memory \d+ MB\n$/)
    expect(stderr).toMatch(/^No model was named, .* simple shapes.*--model\.\nencoding the text\n/)
    expect(stderr).not.toContain('\u001b')
    expect(readdirSync(folder)).toEqual(['fox.png'])
  })

  test('the same seed gives the same bytes, another gives others; --quiet prints nothing', () => {
    const make = (name: string, seed: string) =>
      ggflux('generate', 'a', '-o', name, '--seed', seed, '--quiet', ...SMALL)
    const results = [make('1.png', '1'), make('again.png', '1'), make('2.png', '2')]
    for (const { status, stdout, stderr } of results) expect([status, stdout.toString(), stderr]).toEqual([0, '', ''])
    expect(read('1.png').equals(read('again.png'))).toBe(true)
    expect(read('1.png').equals(read('2.png'))).toBe(false)
  })

  test('--json prints events in order, the preview file is a picture', async () => {
    const { status, stdout } = ggflux('generate', 'a', '--json', '--seed', '3', '--preview', 'step.png', ...SMALL)
    expect(status).toBe(0)
    const events = stdout
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    const order = events.map(({ type, stage, step }) => stage ?? step ?? type)
    expect(order).toEqual(['text', 'load', 'denoise', 1, 2, 'decode', 'image'])
    expect(events[3]).toMatchObject({
      type: 'step',
      steps: 2,
      sigma: 1,
      preview: 'step.png',
      seconds: expect.any(Number),
    })
    const image = events.at(-1)
    expect(image).toMatchObject({
      type: 'image',
      path: 'ggflux-3.png',
      format: 'png',
      width: 64,
      height: 96,
      seed: 3,
      steps: 2,
    })
    expect(Object.keys(image.timings)).toEqual(['text', 'encode', 'load', 'denoise', 'decode'])
    expect(image.memory.peak).toBeGreaterThan(50e6)
    expect(image.bytes).toBe(read('ggflux-3.png').length)
    // one pixel per latent
    expect(await sharp(read('step.png')).metadata()).toMatchObject({ format: 'png', width: 8, height: 12 })
  })

  test('a name that nobody gave is never taken from another file; one that was given is', () => {
    writeFileSync(join(folder, 'ggflux-5.png'), 'mine')
    writeFileSync(join(folder, 'old.png'), 'old')
    expect(ggflux('generate', 'a', '--seed', '5', ...SMALL).stdout.toString()).toMatch(/^ggflux-5-2\.png /)
    expect(read('ggflux-5.png').toString()).toBe('mine')
    expect(ggflux('generate', 'a', '--seed', '5', '-o', 'old.png', ...SMALL).status).toBe(0)
    expect(read('old.png').equals(read('ggflux-5-2.png'))).toBe(true)
  })

  test.each([
    [['-o', 'a.JPG', '--quality', '50'], 'a.JPG', 'jpeg'],
    [['-o', 'picture', '--format', 'webp'], 'picture', 'webp'],
    [['--seed', '1', '--format', 'jpeg'], 'ggflux-1.jpg', 'jpeg'],
  ])('format: %j', async (args, name, format) => {
    expect(ggflux('generate', 'a', ...args, ...SMALL)).toMatchObject({ status: 0 })
    expect((await sharp(read(name)).metadata()).format).toBe(format)
  })

  test('-o - writes the picture to stdout, everything else to stderr', async () => {
    const { status, stdout, stderr } = ggflux(
      'generate',
      'a red star '.repeat(20),
      '-o',
      '-',
      '--max-sequence-length',
      '16',
      ...SMALL,
    )
    expect(status).toBe(0)
    expect(stdout.subarray(0, 8)).toEqual(PNG)
    expect((await sharp(stdout).stats()).channels).toHaveLength(3)
    expect(stderr).toMatch(/\nThe prompt is longer than T5 reads.*--max-sequence-length.*\n-  64x96  seed \d+ /)
    expect(readdirSync(folder)).toEqual([])
  })

  test('the files one by one, and their folder, give what the preset gives', () => {
    const args = ['--seed', '1', '--quiet', ...SMALL]
    const results = [
      ggflux('generate', 'a', '-o', 'preset.png', '--model', 'tiny', ...args),
      ggflux('generate', 'a', '-o', 'parts.png', ...parts(), '--clip-tokenizer', model, ...args),
      ggflux('generate', 'a', '-o', 'folder.png', '--model', model, '--clip-tokenizer', model, ...args),
    ]
    for (const { status, stderr } of results) expect([status, stderr]).toEqual([0, ''])
    expect(read('parts.png').equals(read('preset.png'))).toBe(true)
    expect(read('folder.png').equals(read('preset.png'))).toBe(true)
  })

  test('noise levels of your own are the levels of the steps', () => {
    const { stdout } = ggflux('generate', 'a', '--json', '--sigmas', '1,0.75,0.5', '--width', '64', '--height', '64')
    const steps = stdout
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ type }) => type === 'step')
    expect(steps.map(({ sigma, sigmaNext }) => [sigma, sigmaNext])).toEqual([
      [1, 0.75],
      [0.75, 0.5],
      [0.5, 0],
    ])
  })

  test('a pipe is written to, not replaced', ({ skip }) => {
    skip(process.platform === 'win32', 'Windows has no named pipes in folders')
    const pipe = join(folder, 'pipe')
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0)
    const script = '"$0" "$1" generate a -o pipe --quiet --width 64 --height 64 --steps 1 & cat pipe; wait'
    const shell = spawnSync('sh', ['-c', script, process.execPath, MAIN], { cwd: folder, env })
    expect(shell.stdout.subarray(0, 8)).toEqual(PNG)
    expect(readdirSync(folder)).toEqual(['pipe'])
  })
})

test('images in: a start image and a mask give numbered images, which keep what is black in the mask', async () => {
  const [width, height] = [64, 96]
  const pixels = (name: string) => sharp(read(name)).raw().toBuffer()
  const isWhite = (x: number) => x < 32
  const mask = Buffer.from(Array.from({ length: width * height }, (_, i) => (isWhite(i % width) ? 255 : 0)))
  writeFileSync(
    join(folder, 'mask.png'),
    await sharp(mask, { raw: { width, height, channels: 1 } })
      .png()
      .toBuffer(),
  )
  expect(ggflux('generate', 'a red circle', '-o', 'in.png', '--seed', '1', '--quiet', ...SMALL).status).toBe(0)

  // the size is the image's
  const images = ['--image', 'in.png', '--mask', 'mask.png', '--strength', '0.5', '--count', '2']
  const { status, stdout, stderr } = ggflux(
    ...['generate', 'a blue square', '-o', 'out.png', '--seed', '2', '--json', '--steps', '4', '--threads', '1'],
    ...images,
  )
  expect(stderr).not.toContain('ggflux:')
  expect(status).toBe(0)
  expect(readdirSync(folder).sort()).toEqual(['in.png', 'mask.png', 'out-1.png', 'out-2.png'])
  const events = stdout
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  const order = events.map(({ type, stage, index, step }) => stage ?? [type, index, ...(step ? [step] : [])].join(' '))
  const [first, second] = [0, 1].map((index) => [`step ${index} 1`, `step ${index} 2`, 'decode', `image ${index}`])
  expect(order).toEqual(['text', 'encode', 'load', 'denoise', ...first!, 'text', 'denoise', ...second!])
  expect(events.filter(({ type }) => type === 'image')).toMatchObject([
    { path: 'out-1.png', seed: 2, width, height, steps: 2 },
    { path: 'out-2.png', seed: 3, width, height, steps: 2 },
  ])
  expect(events.at(-1).parameters).toContain('Denoising strength: 0.5')

  const before = await pixels('in.png')
  for (const name of ['out-1.png', 'out-2.png']) {
    const after = await pixels(name)
    const changed = [...after.keys()].filter((i) => after[i] !== before[i])
    expect(changed.filter((i) => !isWhite(Math.floor(i / 3) % width))).toEqual([])
    expect(changed.length).toBeGreaterThan(before.length / 8)
  }
  expect(read('out-1.png').equals(read('out-2.png'))).toBe(false)
})

describe('streams that fail', () => {
  const args = ['generate', 'a red circle', '--seed', '1', '--show', 'none', ...SMALL]
  const run = (more: string[], stdio: ('ignore' | 'pipe' | number)[]) =>
    spawnSync(process.execPath, [MAIN, ...args, ...more], { cwd: folder, env, stdio, encoding: 'utf8' })

  test('a full stdout: the picture is kept in a file, which is told', ({ skip }) => {
    skip(!existsSync('/dev/full'), 'there is no /dev/full here')
    const full = openSync('/dev/full', 'w')
    const { status, stderr } = run(['-o', '-'], ['ignore', full, 'pipe'])
    expect(status).toBe(1)
    expect(stderr).toMatch(/stdout cannot be written: ENOSPC.*; the image is in ggflux-1\.png\n$/)
    expect(read('ggflux-1.png').subarray(0, 8)).toEqual(PNG)
    const events = run(['-o', 'events.png', '--json'], ['ignore', full, 'pipe'])
    closeSync(full)
    expect(events).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^ggflux: stdout cannot be written: ENOSPC.*\n$/m) as string,
    })
    expect(read('events.png').equals(read('ggflux-1.png'))).toBe(true)
  })

  test('a full stderr: the picture is made', ({ skip }) => {
    skip(!existsSync('/dev/full'), 'there is no /dev/full here')
    const full = openSync('/dev/full', 'w')
    expect(run(['-o', 'a.png'], ['ignore', 'pipe', full])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^a\.png /) as string,
    })
    closeSync(full)
    expect(read('a.png').subarray(0, 8)).toEqual(PNG)
  })

  test.each([
    ['stderr', 0, '-o a.png 2>&1 >/dev/null'],
    ['stdout', 1, '-o a.png --json --quiet'],
    ['stdout that takes the picture', 1, '-o - --quiet'],
  ])('whoever reads %s goes away: the image is in a file', (_, status, more) => {
    const quoted = [process.execPath, MAIN, ...args].map((arg) => `'${arg}'`).join(' ')
    const shell = spawnSync('bash', ['-c', `${quoted} ${more} | true; echo \${PIPESTATUS[0]}`], {
      cwd: folder,
      env,
      encoding: 'utf8',
    })
    expect(shell.stdout.trim()).toBe(String(status))
    const names = readdirSync(folder)
    expect(names).toEqual([more.startsWith('-o -') ? 'ggflux-1.png' : 'a.png'])
    expect(read(names[0]!).subarray(0, 8)).toEqual(PNG)
  })

  test('a preview that cannot be written any more is told once, and the picture is made', () => {
    mkdirSync(join(folder, 'previews'))
    // the folder goes when the first step is told
    const script = `
      const { rmSync } = require('node:fs')
      const write = process.stdout.write.bind(process.stdout)
      process.stdout.write = (text, ...rest) => {
        if (String(text).includes('"stage":"text"')) rmSync('previews', { recursive: true })
        return write(text, ...rest)
      }`
    const preload = join(folder, 'preload.cjs')
    writeFileSync(preload, script)
    const child = spawnSync(
      process.execPath,
      ['--require', preload, MAIN, ...args, '--json', '--preview', 'previews/step.png', '-o', 'a.png'],
      { cwd: folder, env, encoding: 'utf8' },
    )
    const events = child.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(events.filter(({ type }) => type === 'warning').map(({ message }) => message)).toEqual([
      expect.stringMatching(/^previews\/step\.png: the preview of step 1 cannot be written/),
    ])
    expect([child.status, events.at(-1).path]).toEqual([0, 'a.png'])
  })
})

describe('a terminal', () => {
  test('sees one line that tells stage, step and time left, and loses it at the end', ({ skip }) => {
    const probe = spawnSync('script', ['-qec', 'true', '/dev/null'])
    skip(probe.status !== 0, 'the program script (util-linux), which makes a terminal, is not here')
    const command = `"${process.execPath}" "${MAIN}" generate a -o t.png --model tiny --show none --width 512 --height 512 --steps 4 --threads 1`
    const xterm = { cwd: folder, env: { ...env, TERM: 'xterm' }, encoding: 'utf8' } as const
    const screen = spawnSync('script', ['-qec', command, '/dev/null'], xterm).stdout
    // the tiny model's text stage is shorter than the line's interval
    expect(screen).toMatch(/loading the model|encoding the text/)
    expect(screen).toMatch(/step 2\/4  █{12}░{12}  [\d.]+ s\/step, [\d.]+ s left/)
    expect(screen).toMatch(/decoding the image/)
    expect(screen).toMatch(/\u001b\[2Kt\.png  512x512 /)
    expect(existsSync(join(folder, 't.png'))).toBe(true)
  })
})

describe('cancelling', () => {
  function startLongPicture() {
    const size = ['--width', '512', '--height', '512', '--steps', '1000', '--threads', '1']
    return spawn(process.execPath, [MAIN, 'generate', 'a', '-o', 'out.png', '--json', '--model', 'tiny', ...size], {
      cwd: folder,
      env,
    })
  }

  async function firstStep(child: ReturnType<typeof startLongPicture>): Promise<void> {
    for await (const line of createInterface(child.stdout)) if (JSON.parse(line).type === 'step') return
    throw new Error('the command ended before its first step')
  }

  test.for([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s stops within a step, leaves nothing and exits with %i', async ([signal, status], { skip }) => {
    skip(process.platform === 'win32', NO_SIGNALS)
    const child = startLongPicture()
    let stderr = ''
    child.stderr.on('data', (text) => (stderr += text))
    await firstStep(child)
    child.kill(signal)
    expect(await once(child, 'close')).toEqual([status, null])
    expect(stderr).toBe('cancelled\n')
    expect(readdirSync(folder)).toEqual([])
  })

  test('a second signal does not wait', async ({ skip }) => {
    skip(process.platform === 'win32', NO_SIGNALS)
    const child = startLongPicture()
    await firstStep(child)
    child.kill('SIGINT')
    child.kill('SIGTERM')
    const [status] = await once(child, 'close')
    expect([130, 143]).toContain(status)
    expect(readdirSync(folder)).toEqual([])
  })

  test('synth leaves no partial file', async ({ skip }) => {
    skip(process.platform === 'win32', NO_SIGNALS)
    const args = ['synth', '--arch', 'flux-schnell', '--type', 'f16', '-o', 'model.gguf']
    const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder, env })
    await expect
      .poll(() => readdirSync(folder), { timeout: 30_000, interval: 20 })
      .toEqual([expect.stringContaining('partial')])
    child.kill('SIGINT')
    expect(await once(child, 'close')).toEqual([130, null])
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('wrong inputs', () => {
  test.each([
    [
      'an unknown option, with what it may have been',
      ['--widht', '64'],
      /unknown option '--widht'\n\(Did you mean --width\?\)/,
    ],
    ['no number', ['--steps', 'many'], /--steps <n>.*'many'/],
    ['a width that is no multiple of 16', ['--model', 'tiny', '--width', '100'], /width is 100\b.*multiple of 16/],
    ['an unknown shift', ['--shift', 'diffusers'], /--shift \[how\].*'diffusers'.*comfyui/],
    ['an unknown sampler', ['--sampler', 'magic'], /--sampler <name>.*'magic'.*euler/],
    ['a model given twice', ['--model', 'tiny', '--vae', 'x'], /--model <name>.*cannot be used with.*--vae/],
    ['half a model', ['--vae', 'x', '--clip', 'y'], /--transformer, --t5 missing/],
    ['a quality for PNG', ['--model', 'tiny', '--quality', '90'], /quality is 90.*png has no quality/],
    ['a suffix of no picture', ['-o', 'a.gif'], /a\.gif: \.gif is not an image format.*\.webp/],
    ['options of a preview that is not there', ['--preview-every', '2'], /--preview is missing/],
    ['two things for stdout', ['-o', '-', '--json'], /--json and -o -/],
    ['a picture without a name', ['-o', ''], /file to write is ''/],
    ['a wrong key', ['--controlnet', 'path=a,image=b'], /--controlnet <list>.*'path=a,image=b'.*Give file=…,image=…/],
    [
      'a ControlNet without an image',
      ['--model', 'tiny', '--controlnet', 'file=a'],
      /--controlnet <list>.*'file=a'.*image is missing\. Give file=…,image=…/,
    ],
    ['a side without pixels', ['--image', 'a.png', '--extend', 'left'], /--extend <sides>.*'left'.*such as left=64/],
    ['an unknown side', ['--model', 'tiny', '--image', 'a.png', '--extend', 'up=5'], /no up in extend/],
    ['a mask without an image', ['--model', 'tiny', '--mask', 'a.png'], /mask is given without image/],
    [
      'a negative prompt alone',
      ['--model', 'tiny', '--negative-prompt', 'red'],
      /negativePrompt has no effect while trueCfg is 1/,
    ],
    ['several pictures for stdout', ['-o', '-', '--count', '2'], /-o - takes one image/],
    ['a preview without a name', ['--preview', ''], /file to write is ''/],
  ])('%s: exit code 2', (_, args, message) => {
    expectFailure(ggflux('generate', 'a', ...args), 2, message)
  })

  test('no prompt, or an unknown command: exit code 2', () => {
    expectFailure(ggflux('generate'), 2, /missing required argument 'prompt'/)
    expectFailure(ggflux('generat', 'a'), 2, /unknown command 'generat'\n\(Did you mean generate\?\)/)
  })

  test('files that are not there, or not what they should be: exit code 1', () => {
    writeFileSync(join(folder, 'notes.gguf'), 'these are only words')
    expectFailure(ggflux('generate', 'a', ...parts({ t5: 'missing.gguf' })), 1, /missing\.gguf: there is no such file/)
    expectFailure(
      ggflux('generate', 'a', ...parts({ transformer: 'notes.gguf' })),
      1,
      /notes\.gguf: neither a GGUF nor a safetensors file/,
    )
    expectFailure(ggflux('generate', 'a', ...parts({ t5: tiny('clip.gguf') })), 1, /clip\.gguf: .*CLIP.*T5/)
    expectFailure(ggflux('generate', 'a', '--model', 'nowhere'), 1, /nowhere/)
    expectFailure(ggflux('generate', 'a', '--model', 'tiny', '--backend', 'abacus'), 1, /'abacus'.*CPU/)
  })

  test('targets that cannot be written: exit code 1, before the work', () => {
    mkdirSync(join(folder, 'sub'))
    writeFileSync(join(folder, 'file'), '')
    expectFailure(
      ggflux('generate', 'a', '-o', 'nowhere/a.png'),
      1,
      /nowhere\/a\.png cannot be written: there is no folder .*nowhere/,
    )
    expectFailure(ggflux('generate', 'a', '-o', 'sub'), 1, /sub cannot be written: this is a folder/)
    expectFailure(ggflux('generate', 'a', '-o', 'file/a.png'), 1, /file\/a\.png cannot be written/)
    expectFailure(ggflux('generate', 'a', '--preview', 'nowhere/a.png'), 1, /nowhere\/a\.png cannot be written/)
  })

  test('a stack trace comes only when it is asked for', () => {
    const args = ['generate', 'a', '--model', 'nowhere']
    const debugged = spawnSync(process.execPath, [MAIN, ...args], {
      cwd: folder,
      env: { ...env, GGFLUX_DEBUG: '1' },
      encoding: 'utf8',
    })
    expect(debugged.stderr).toMatch(/^ +at /m)
    expect(ggflux(...args).stderr).not.toMatch(/^ +at /m)
  })
})

describe('synth and inspect', () => {
  test('what was written is found again', () => {
    const fields = ['--set', 'depth=1', '--set', 'guidanceEmbed=false', '--set', 'axesDim=16,56,56']
    const written = ggflux('synth', '--arch', 'flux-tiny', '--type', 'q4_k', '-o', 'model.gguf', ...fields)
    expect([written.status, written.stderr]).toEqual([0, ''])
    expect(written.stdout.toString()).toMatch(/^model\.gguf  [\d.]+ M parameters  [\d.]+ MB  [\d.]+ s\n$/)
    const [found] = JSON.parse(ggflux('inspect', '--json', 'model.gguf').stdout.toString())
    expect(found).toMatchObject({
      path: 'model.gguf',
      format: 'gguf',
      role: 'transformer',
      architecture: 'FLUX.1 without guidance (schnell)',
      size: read('model.gguf').length,
      config: { depth: 1, depthSingleBlocks: 2, hiddenSize: 256, guidanceEmbed: false, axesDim: [16, 56, 56] },
      metadata: { 'general.architecture': 'flux' },
      problems: [],
    })
    expect(found.types.Q4_K.count).toBeGreaterThan(0)
    const text = ggflux('inspect', 'model.gguf').stdout.toString()
    expect(text).toMatch(
      /^model\.gguf\n {2}role +transformer\n {2}architecture +FLUX\.1 without guidance \(schnell\)\n/,
    )
    expect(text).toMatch(/ Q4_K +\d+ tensors +[\d.]+ MB +[\d.]+ %\n/)
    expect(text).toMatch(
      / needs +the T5-XXL text encoder, the CLIP-L text encoder and the autoencoder next to it .*\n +here +a step at 1024 x 1024 takes about [\d.]+ m?s; [\d.]+ MB of weights in [\d.]+ GB of memory\n/,
    )
    expect(text).toMatch(/ problems +none\n$/)
  })

  test('a whole model draws', () => {
    const written = ggflux('synth', '--model', 'flux-tiny', '--type', 'q8_0', '-o', 'whole')
    expect([written.status, written.stderr]).toEqual([0, ''])
    expect(ggflux('generate', 'a red fox', '--model', 'whole', '-o', 'noise.png', '--seed', '1', ...SMALL).status).toBe(
      0,
    )
    expect(ggflux('synth', '--model', 'flux-huge', '-o', 'whole').stderr).toMatch(/flux-huge.*flux-schnell/)
  })

  test('the same seed gives the same file, another gives another', () => {
    const write = (name: string, seed: string) =>
      ggflux('synth', '--arch', 'clip-tiny', '-o', name, '--seed', seed, '--quiet')
    for (const result of [write('a.safetensors', '1'), write('b.safetensors', '1'), write('c.safetensors', '2')]) {
      expect([result.status, result.stdout.toString(), result.stderr]).toEqual([0, '', ''])
    }
    expect(read('a.safetensors').equals(read('b.safetensors'))).toBe(true)
    expect(read('a.safetensors').equals(read('c.safetensors'))).toBe(false)
  })

  test('a file that cannot be read does not hide the others', () => {
    const { status, stdout, stderr } = ggflux('inspect', '--json', 'missing.gguf', tiny('clip.gguf'))
    expect(status).toBe(1)
    expect(JSON.parse(stdout.toString())).toMatchObject([
      { path: 'missing.gguf', error: { code: 'FLUX_NOT_FOUND' } },
      { role: 'clip' },
    ])
    expect(stderr).toMatch(/^ggflux: missing\.gguf: there is no such file[^\n]*\n$/)
  })

  test('a file that cannot be loaded: exit code 1, as for a folder', async () => {
    await writeModelFile(join(folder, 'strange.safetensors'), [
      { name: 'x', shape: [1], type: 'F32', data: new Uint8Array(4) },
    ])
    expect(ggflux('inspect', 'strange.safetensors').status).toBe(1)
    expect(ggflux('inspect', tiny('clip.gguf')).status).toBe(0)
    expect(ggflux('inspect', tiny('')).status).toBe(0)
  })

  test('tiny is the model in the package, as for generate', () => {
    const [tiny] = JSON.parse(ggflux('inspect', '--json', 'tiny').stdout.toString())
    expect(tiny.problems).toEqual([])
    expect(tiny.files.map(({ role }: { role: string }) => role)).toEqual(['transformer', 't5', 'clip', 'autoencoder'])
  })

  test('--list has the published sizes', () => {
    // parameters as the model cards give them: 12 B, 4.8 B (the encoder's half of 11 B), 123 M, 84 M
    const lines = ggflux('synth', '--list').stdout.toString()
    expect(lines).toMatch(/^flux-schnell +11\.9 B +23\.8 GB/m)
    expect(lines).toMatch(/^t5-xxl +4\.8 B +9\.5 GB/m)
    expect(lines).toMatch(/^clip-l +123 M +246 MB/m)
    expect(lines).toMatch(/^autoencoder +83\.8 M +168 MB/m)
  })

  test.each([
    [['--arch', 'flux-huge', '-o', 'a.gguf'], /flux-huge.*flux-schnell/],
    [['--arch', 'clip-tiny', '--type', 'q9', '-o', 'a.gguf'], /Q9.*Q4_0/],
    [['--arch', 'clip-tiny', '--set', 'depth', '-o', 'a.gguf'], /--set is 'depth'/],
    [['--arch', 'clip-tiny', '--set', 'depth=1', '-o', 'a.gguf'], /config\.depth.*numLayers/],
    [['--arch', 'clip-tiny', '-o', 'a.bin'], /a\.bin: the suffix/],
    [['--arch', 'clip-tiny'], /-o is missing/],
    [['-o', 'a.gguf'], /--arch is missing/],
  ])('wrong usage %j: exit code 2', (args, message) => {
    expectFailure(ggflux('synth', ...args), 2, message)
  })
})

describe('devices', () => {
  test('lists the CPU and marks one device', () => {
    const found = JSON.parse(ggflux('devices', '--json').stdout.toString()) as {
      kind: string
      name: string
      auto: boolean
    }[]
    expect(found.map(({ kind }) => kind)).toContain('cpu')
    expect(found.filter(({ auto }) => auto)).toHaveLength(1)
    const lines = ggflux('devices').stdout.toString().split('\n')
    expect(lines[0]).toMatch(/^ +NAME +KIND +DESCRIPTION +DRIVER +FREE +MEMORY +USABLE$/)
    expect(lines.filter((line) => line.startsWith('* ')).map((line) => line.split(/ +/)[1])).toContain(
      found.find(({ auto }) => auto)!.name,
    )
  })
})

describe('parameters', () => {
  const image = fileURLToPath(new URL('../fixtures/images/comfyui.png', import.meta.url))

  test('shows options, LoRAs and what has no option', () => {
    const { stdout, status } = ggflux('parameters', image)
    expect(status).toBe(0)
    expect(stdout.toString()).toMatch(
      /^written by +comfyui\nprompt +a fox "in the snow"[^]*\nlora +ink.safetensors 1\nno option: model +flux1-dev/,
    )
    expect(JSON.parse(ggflux('parameters', '--json', image).stdout.toString())).toMatchObject({
      writer: 'comfyui',
      options: { steps: 20 },
    })
  })

  test('a file that is no image: exit code 1', () => {
    expectFailure(ggflux('parameters', fileURLToPath(import.meta.url)), 1, /is not an image file/)
  })
})

test('upscale enlarges an image, and says what is wrong before it works', async () => {
  mkdirSync(join(folder, 'in'))
  await sharp({ create: { width: 40, height: 24, channels: 3, background: 'teal' } })
    .png()
    .toFile(join(folder, 'in/small.png'))
  expect(ggflux('synth', '--arch', 'rrdb-tiny', '-o', 'net.safetensors', '--type', 'f32', '--quiet').status).toBe(0)
  const upscale = (...more: string[]) =>
    ggflux('upscale', 'in/small.png', '--upscaler', 'net.safetensors', '--threads', '1', ...more)
  expectFailure(upscale('-o', 'large.png', '--tile', '8'), 2, /tile is 8: give a whole number from 32/)
  expectFailure(upscale('-o', 'none/large.png'), 1, /there is no folder/)
  const { status, stdout } = upscale('-o', 'large.png', '--tile', '32')
  expect(status).toBe(0)
  expect(stdout.toString()).toMatch(/^large\.png {2}160 x 96 {2}/)
  expect(await sharp(read('large.png')).metadata()).toMatchObject({ width: 160, height: 96 })
})

describe('upscale and how the image was made', () => {
  const small = { create: { width: 16, height: 16, channels: 3, background: 'teal' } } as const
  const upscale = (input: string, output: string) =>
    ggflux('upscale', input, '-o', output, '--upscaler', 'net.safetensors', '--threads', '1', '--quiet')
  beforeEach(() => {
    expect(ggflux('synth', '--arch', 'rrdb-tiny', '-o', 'net.safetensors', '--type', 'f32', '--quiet').status).toBe(0)
  })

  test('the text is kept', async () => {
    const size = ['--width', '64', '--height', '64', '--steps', '1']
    expect(ggflux('generate', 'a red circle', '-o', 'small.png', ...size).status).toBe(0)
    expect(upscale('small.png', 'large.webp').status).toBe(0)
    const [before, after] = await Promise.all(['small.png', 'large.webp'].map((name) => readParameters(read(name))))
    expect(before!.text).toMatch(/^a red circle\n/)
    expect(after!.text).toBe(before!.text)
  })

  test.each([
    ['another comment', 'Nice sunset'],
    ['a text that the format has no room for', `${'é'.repeat(40_000)}\nSteps: 4, Sampler: Euler, Seed: 1`],
  ])('%s stays behind', async (_, text) => {
    const { data } = await sharp(small).raw().toBuffer({ resolveWithObject: true })
    writeFileSync(join(folder, 'small.png'), await encodeImage(data, 16, 16, { parameters: text }))
    expect(upscale('small.png', 'large.jpg')).toMatchObject({ status: 0 })
    expect(await readParameters(read('large.jpg'))).toBeUndefined()
  })
})

test('rpc-server tells what it cannot do', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  expectFailure(ggflux('rpc-server', '--port', String(port)), 1, /cannot listen at 127\.0\.0\.1:\d+.*EADDRINUSE/)
  taken.close()
  expectFailure(ggflux('rpc-server', '--port', '0'), 2, /--port is 0/)
  expectFailure(ggflux('rpc-server', '--host', 'a b'), 2, /--host is 'a b'/)
  expectFailure(ggflux('rpc-server', '--backend', 'rpc://a:1'), 2, /device of this machine/)
})

describe('bench', () => {
  test('measures pictures, tells where a step goes, writes and draws the figures', () => {
    const { status, stdout, stderr } = ggflux(
      'bench',
      '--sizes',
      '64,64x96',
      '--steps',
      '1',
      '--profile',
      '--json',
      'bench.json',
      '--plot',
      'bench.svg',
    )
    expect(stderr).toBe('')
    expect(status).toBe(0)
    const { rows, profile, peak, machine } = JSON.parse(read('bench.json').toString()) as BenchResult
    expect(rows.map(({ width, height }) => [width, height])).toEqual([
      [64, 64],
      [64, 96],
    ])
    for (const { took, predicted, peak, before } of rows) {
      expect(Math.min(took.text, took.step, took.decode)).toBeGreaterThan(0)
      expect(took.total).toBeGreaterThan(took.step + took.decode)
      expect(predicted.seconds!.total).toBeGreaterThan(0)
      expect(peak).toBeGreaterThan(before)
    }
    // a step's products by the formula, and as the graph counted them
    const counted = profile!.operations.reduce((sum, { operations }) => sum + operations, 0)
    expect(rows[1]!.predicted.operations.step).toBe(counted)
    expect(Math.min(peak!.registers, peak!.memory)).toBeGreaterThan(1e8)
    expect(machine.device).toBe('CPU')
    expect(stdout.toString()).toMatch(
      /64 x 96 +PREDICTED +TOOK +OFF BY[^]*one step[^]*where a step at 64 x 96 goes[^]*linear/,
    )
    expect(read('bench.svg').toString()).toMatch(/^<svg [^]*one step, predicted/)
  })

  test.each([
    [['--sizes', 'large'], /--sizes is 'large'.*256,512x768/],
    [['--sizes', '100'], /width is 100.*multiple of 16/],
    [['--steps', '0'], /steps is 0/],
    [['--json', 'nowhere/bench.json'], /nowhere\/bench\.json cannot be written/],
  ])('wrong usage %j', (args, message) => {
    const { status, stderr } = ggflux('bench', ...args)
    expect(stderr).toMatch(message)
    expect(status).toBeGreaterThan(0)
  })
})
