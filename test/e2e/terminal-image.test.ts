import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { Terminal } from '../support/terminal.js'

// `ggflux generate` in a real pseudo terminal of 80 x 24, whose output our own terminal reads.
const reason =
  process.platform !== 'linux'
    ? `its options on ${process.platform} are others`
    : spawnSync('script', ['-qec', 'stty size', '/dev/null']).status !== 0
      ? 'it is not here'
      : undefined
if (reason) console.log(`skipped: the picture in a terminal (script of util-linux, which makes one: ${reason})`)

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const root = mkdtempSync(join(tmpdir(), 'ggflux-show-'))
const { PATH, HOME } = process.env
const SMALL = ['-o', 'a.png', '--model', 'tiny', '--width', '96', '--height', '64', '--steps', '3', '--threads', '1']
let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(root, 'test-'))
})
afterAll(() => rmSync(root, { recursive: true }))

/** @param redirect what the shell does with the command's output */
function inTerminal(env: NodeJS.ProcessEnv, args: string[] = [], redirect = '') {
  const ggflux = `"${process.execPath}" "${MAIN}" generate 'a red circle' ${[...SMALL, ...args].join(' ')}`
  const command = `stty cols 80 rows 24; ${ggflux} ${redirect}`
  const options = { cwd: folder, env: { PATH, HOME, ...env }, encoding: 'utf8', maxBuffer: 2 ** 26 } as const
  const { status, stdout } = spawnSync('script', ['-qec', command, '/dev/null'], options)
  const terminal = new Terminal(24)
  terminal.write(stdout)
  return { status, stdout, terminal }
}

const XTERM = { TERM: 'xterm-256color', COLORTERM: 'truecolor' }
const SUMMARY = /^a\.png  96x64  seed \d+  3 steps  /

describe.skipIf(reason)('a terminal', () => {
  test.each([
    ['kitty', { TERM: 'xterm-kitty' }],
    ['iterm2', { TERM: 'xterm-256color', TERM_PROGRAM: 'iTerm.app' }],
  ])('%s: previews, and in their place the file itself', async (protocol, env) => {
    const { status, terminal } = inTerminal(env)
    expect(status).toBe(0)
    const file = readFileSync(join(folder, 'a.png'))
    const { length } = terminal.shown
    expect(length).toBeGreaterThanOrEqual(2)
    expect(terminal.shown.map((shown) => [shown.protocol, shown.row, shown.column])).toEqual(
      Array(length).fill([protocol, 0, 0]),
    )
    expect(await sharp(terminal.shown[0]!.data).metadata()).toMatchObject({ format: 'png', width: 12, height: 8 })
    expect(terminal.shown.at(-1)!.data.equals(file)).toBe(true)
    // 12 columns of 8 pixels, 4 rows; the summary right below
    expect(terminal.line(4)).toMatch(SUMMARY)
    expect(terminal.grid.slice(5).flat()).toEqual([])
  })

  test('half blocks: the picture, and nothing else but the summary below it', async () => {
    const { status, terminal } = inTerminal(XTERM)
    expect(status).toBe(0)
    // 44 rows of pixels would be 66 columns: as wide as high in the file's proportion
    const [columns, rows] = [66, 22]
    const expected = await sharp(join(folder, 'a.png')).removeAlpha().raw().toBuffer()
    const mean = (channel: number) =>
      expected.filter((_, i) => i % 3 === channel).reduce((sum, value) => sum + value, 0) / (96 * 64)
    const cells = terminal.grid.slice(0, rows).flat()
    expect(cells).toHaveLength(columns * rows)
    const colours = cells
      .flatMap(({ foreground, background }) => [foreground!, background!])
      .map((colour) => colour.split(';').map(Number))
    for (const channel of [0, 1, 2]) {
      expect(colours.reduce((sum, colour) => sum + colour[channel]!, 0) / colours.length).toBeCloseTo(mean(channel), 0)
    }
    for (let row = 0; row < rows; row++) expect(terminal.line(row)).toBe('▀'.repeat(columns))
    expect(terminal.line(rows)).toMatch(SUMMARY)
    expect(terminal.grid.slice(rows + 1).flat()).toEqual([])
  })

  test('other formats and previews in a file are no hindrance', async () => {
    const { status, terminal } = inTerminal({ TERM: 'xterm-kitty' }, [
      '-o',
      'a.webp',
      '--preview',
      'now.png',
      '--preview-every',
      '2',
    ])
    expect(status).toBe(0)
    expect(terminal.shown).toHaveLength(2)
    expect(await sharp(terminal.shown[0]!.data).raw().toBuffer()).toEqual(
      await sharp(join(folder, 'now.png')).raw().toBuffer(),
    )
    const [shown, file] = [terminal.shown[1]!.data, join(folder, 'a.webp')]
    expect(await sharp(shown).raw().toBuffer()).toEqual(await sharp(file).raw().toBuffer())
  })

  test('how previews are made can be said where the terminal alone shows them', () => {
    const { status, terminal } = inTerminal({ TERM: 'xterm-kitty' }, [
      '--preview-method',
      'linear',
      '--preview-every',
      '3',
    ])
    expect(status).toBe(0)
    expect(terminal.shown).toHaveLength(2)
    expect(inTerminal({ TERM: 'xterm-kitty' }, ['--preview-every', '3', '--show', 'none']).status).toBe(2)
  })

  test('--show says how, and --show none leaves it', () => {
    expect(inTerminal({ TERM: 'xterm', CI: '1' }, ['--show', 'iterm2']).terminal.shown.at(-1)?.protocol).toBe('iterm2')
    expect(inTerminal({ TERM: 'xterm-kitty' }, ['--show', 'none']).terminal.shown).toEqual([])
    expect(inTerminal(XTERM, ['--show', 'none']).stdout).not.toContain('▀')
  })

  test.each([
    ['no true colour', { TERM: 'xterm-256color' }, [], ''],
    ['NO_COLOR', { ...XTERM, NO_COLOR: '1' }, [], ''],
    ['CI', { ...XTERM, CI: 'true' }, [], ''],
    ['a dumb terminal', { ...XTERM, TERM: 'dumb' }, [], ''],
    ['--quiet', XTERM, ['--quiet'], ''],
    ['stdout in a pipe', XTERM, [], '| cat'],
    ['stderr in a file', XTERM, [], '2> log'],
    ['stderr in a pipe with kitty', { TERM: 'xterm-kitty' }, [], '2>&1 >/dev/null | cat'],
  ])('%s: no picture', (_, env, args, redirect) => {
    const { status, stdout } = inTerminal(env, args, redirect)
    expect(status).toBe(0)
    expect(stdout).not.toMatch(/▀|\x1b_G|\x1b\]/)
    expect(readFileSync(join(folder, 'a.png')).subarray(1, 4).toString()).toBe('PNG')
  })

  test('--show where there is no place for a picture: exit code 2', () => {
    for (const [args, redirect, message] of [
      [['--json'], '', /--show is kitty, but --json leaves no place for the image/],
      [['--quiet'], '', /--show is kitty, but --quiet leaves/],
      [[], '> log', /--show is kitty, but stdout and stderr are not both a terminal/],
    ] as const) {
      const { status, stdout } = inTerminal({ TERM: 'xterm-kitty' }, ['--show', 'kitty', ...args], redirect)
      expect([status, stdout]).toEqual([2, expect.stringMatching(message)])
    }
  })
})
