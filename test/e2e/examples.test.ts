import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { PNG } from 'pngjs'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { patience } from '../support/patience.js'

// Every program of examples/, in a process of its own as its user runs it.
const checkout = fileURLToPath(new URL('../../', import.meta.url))
const root = mkdtempSync(join(tmpdir(), 'ggflux-examples-'))
const PROMPT = 'a small red circle left of a large blue square on a white background'
const MINUTES = 60_000 * patience
const NO_SIGNALS = 'Windows ends a process at once instead of sending it a signal'

let folder: string
const running = new Set<ChildProcess>()
beforeEach(() => {
  folder = mkdtempSync(join(root, 'test-'))
})
afterEach(() => {
  for (const child of running) child.kill('SIGKILL')
})
afterAll(() => rmSync(root, { recursive: true }))

/** `ended` has the lines of stdout, what stderr said, and the exit code or signal. */
function start(args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, args, { cwd: folder, env: { ...process.env, ...env } })
  running.add(child)
  const lines: string[] = []
  let stderr = ''
  createInterface(child.stdout).on('line', (line) => lines.push(line))
  child.stderr.on('data', (text) => (stderr += text))
  const ended = once(child, 'close').then(([code, signal]) => {
    running.delete(child)
    return { lines, stderr, end: (code ?? signal) as number | string }
  })
  return { child, lines, ended }
}

const example = (...args: string[]) => [join(checkout, 'examples', args[0]!), ...args.slice(1)]
const size = (png: Buffer) => {
  const { width, height } = PNG.sync.read(png)
  return { width, height }
}
const read = (name: string) => readFileSync(join(folder, name))

test('satisfy the compiler', () => {
  // Electron's declarations come with its binary, which is no dependency of ours: its example is left out
  execFileSync(process.execPath, [join(checkout, 'node_modules/typescript/bin/tsc'), '-p', join(checkout, 'examples')])
})

test('examples/README.md names them all, with commands that fit', () => {
  const text = readFileSync(join(checkout, 'examples/README.md'), 'utf8')
  const programs = readdirSync(join(checkout, 'examples')).filter((name) => !/^README\.md$|^tsconfig\.json$/.test(name))
  for (const name of programs) expect(text).toMatch(new RegExp(`^\\| \\[${name.replace('.', '\\.')}/?\\]\\(`, 'm'))
  const paths = [...text.matchAll(/`(?:node|npx electron) (examples\/\S+\.mjs)/g)].map(([, path]) => path!)
  expect(paths).toHaveLength(programs.length)
  for (const path of paths) expect(existsSync(join(checkout, path)), path).toBe(true)
})

describe('script.mjs', () => {
  test('a prompt becomes a file', { timeout: 5 * MINUTES }, async () => {
    const { ended } = start(example('script.mjs', PROMPT, 'circle.png'))
    expect(await ended).toEqual({ lines: ['circle.png'], stderr: '', end: 0 })
    const { width, height } = size(read('circle.png'))
    expect(width).toBe(height)
    expect(read('circle.png').includes(PROMPT)).toBe(true)
  })

  test('Ctrl-C stops it, and leaves no file', { timeout: 5 * MINUTES }, async ({ skip }) => {
    skip(process.platform === 'win32', NO_SIGNALS)
    // a moment after it has begun to listen to the signal: the model is being loaded by then, or the picture made
    const interrupt = `process.on('newListener', (name) => name === 'SIGINT' && setTimeout(() => process.kill(process.pid, name), 50))`
    const preload = `data:text/javascript,${encodeURIComponent(interrupt)}`
    const { ended } = start(['--import', preload, ...example('script.mjs', PROMPT)])
    expect(await ended).toEqual({ lines: [], stderr: '', end: 130 })
    expect(readdirSync(folder)).toEqual([])
  })
})

test('stream.mjs: a line for every step, a preview for every second, the picture', {
  timeout: 5 * MINUTES,
}, async () => {
  const { lines, stderr, end } = await start(example('stream.mjs', PROMPT, 'previews')).ended
  expect([stderr, end]).toEqual(['', 0])
  const steps = lines.filter((line) => /^step \d+ of \d+, \d+ ms$/.test(line)).length
  expect(steps).toBeGreaterThan(1)
  expect(lines[steps]).toBe(PROMPT)
  expect(lines[steps + 1]).toMatch(new RegExp(`^Steps: ${steps}, `))
  const names = readdirSync(join(folder, 'previews')).sort()
  expect(names).toHaveLength(1 + Math.floor(steps / 2))
  expect(names.slice(0, 2)).toEqual(['image.png', 'step-0002.png'])
  const picture = size(read('previews/image.png'))
  for (const name of names.slice(1)) {
    expect(size(read(`previews/${name}`))).toEqual({ width: picture.width / 8, height: picture.height / 8 })
  }
})

describe('server.mjs', () => {
  test('a route of its own, an error, hanging up, closing', { timeout: 10 * MINUTES }, async ({ skip }) => {
    skip(process.platform === 'win32', NO_SIGNALS)
    const server = start(example('server.mjs'), { PORT: '0' })
    const address = () => server.lines.find((line) => line.startsWith('http'))
    await expect.poll(address, { timeout: MINUTES }).toBeDefined()
    const url = address()!

    const image = await fetch(`${url}/circle?colour=green`)
    expect([image.status, image.headers.get('content-type')]).toEqual([200, 'image/png'])
    expect(size(Buffer.from(await image.arrayBuffer()))).toEqual({ width: 128, height: 128 })
    expect((await fetch(`${url}/circle?colour=grey`)).status).toBe(400)

    const leave = new AbortController()
    const left = fetch(`${url}/circle`, leave)
    const health = async () => (await (await fetch(`${url}/health`)).json()) as { running: number }
    await expect.poll(async () => (await health()).running, { interval: 10 }).toBe(1)
    leave.abort()
    await expect(left).rejects.toThrow('aborted')
    await expect.poll(async () => (await health()).running).toBe(0)

    server.child.kill('SIGTERM')
    expect(await server.ended).toMatchObject({ stderr: '', end: 0 })
  })
})

test('electron: pictures, previews, errors, cancelling, a crash, quitting', { timeout: 10 * MINUTES }, async ({
  skip,
}) => {
  skip(process.platform === 'win32', NO_SIGNALS)
  const standIn = pathToFileURL(join(checkout, 'test/support/electron/register.mjs')).href
  const { lines, stderr, end } = await start(['--import', standIn, ...example('electron/main.mjs')]).ended
  expect([stderr, end]).toEqual(['', 0])
  const seen = Object.assign({}, ...lines.map((line) => JSON.parse(line)))

  // the process of the pipeline begins with the first request
  expect(seen.before).toBe(0)
  expect(seen.waiting).toEqual({ status: 'waiting', draw: true, cancel: false })
  expect(seen.picture).toMatchObject({ status: expect.stringMatching(/^seed \d+$/), alt: PROMPT, hidden: false })
  const { width, height } = size(Buffer.from(seen.picture.png, 'base64'))
  expect(seen.previews.length).toBeGreaterThan(1)
  expect(new Set(seen.previews.map(String))).toEqual(
    new Set([String([width / 8, height / 8, (4 * width * height) / 64])]),
  )

  expect(seen.wrong).toEqual([
    { type: 'error', code: 'FLUX_BAD_OPTION', message: expect.stringMatching(/^width is 100: /) },
  ])
  expect(seen.late).toBe(0)
  expect(size(Buffer.from(seen.afterCancel.png, 'base64'))).toEqual({ width, height })
  expect(seen.cancelledByButton).toBe('cancelled')
  expect(seen.crashed).toMatchObject({ type: 'error', message: expect.stringMatching(/has ended/) })
  expect(size(Buffer.from(seen.afterCrash.png, 'base64'))).toEqual({ width, height })
  expect(seen.another).toBe(true)

  expect(seen.quit).toEqual({ leftRunning: 0 })
  expect(seen.last).toHaveLength(1)
  expect(() => process.kill(seen.last[0], 0)).toThrow('ESRCH')
})
