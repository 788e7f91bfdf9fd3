import { randomBytes } from 'node:crypto'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import {
  blockImage,
  detectDrawing,
  fitCells,
  iterm2Image,
  kittyImage,
  TerminalImage,
} from '../../../lib/cli/terminal-image.js'
import { Terminal } from '../../support/terminal.js'

const noise = (width: number, height: number) => ({ data: randomBytes(3 * width * height), width, height })
const toPng = ({ data, width, height }: ReturnType<typeof noise>) =>
  sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer()
const rgb = (png: Buffer) => sharp(png).removeAlpha().raw().toBuffer()
const screen = (columns: number, rows: number, terminal: Terminal) => ({
  columns,
  rows,
  // a terminal's line discipline begins a line at its beginning
  write: (text: string | Uint8Array) => (terminal.write(String(text).replace(/\r?\n/g, '\r\n')), true),
})

test.each([
  [{ TERM: 'xterm-kitty', COLORTERM: 'truecolor' }, 'kitty'],
  [{ TERM: 'xterm-ghostty' }, 'kitty'],
  [{ TERM_PROGRAM: 'iTerm.app', LC_TERMINAL: 'iTerm2' }, 'iterm2'],
  [{ TERM_PROGRAM: 'WezTerm', NO_COLOR: '1' }, 'iterm2'],
  [{ TERM: 'xterm-256color', LC_TERMINAL: 'iTerm2' }, 'iterm2'],
  [{ TERM_PROGRAM: 'vscode', LC_TERMINAL: 'iTerm2', COLORTERM: 'truecolor' }, 'blocks'],
  [{ TERM: 'xterm-256color', COLORTERM: '24bit' }, 'blocks'],
  [{ WT_SESSION: 'x' }, 'blocks'],
  [{ TERM: 'tmux-256color', TMUX: 'x', TERM_PROGRAM: 'iTerm.app', COLORTERM: 'truecolor' }, 'blocks'],
  [{ TERM: 'screen.xterm-kitty', COLORTERM: 'truecolor' }, 'blocks'],
  [{ TERM: 'xterm-kitty', STY: 'x' }, undefined],
  [{ TERM: 'xterm-256color' }, undefined],
  [{ TERM: 'xterm', COLORTERM: 'truecolor', NO_COLOR: '1' }, undefined],
  [{ TERM: 'xterm-kitty', CI: 'true' }, undefined],
  [{ TERM: 'dumb', COLORTERM: 'truecolor' }, undefined],
  [{}, undefined],
] as const)('%j: %s', (env, drawing) => {
  expect(detectDrawing(env)).toBe(drawing)
})

test.each([
  // half blocks: a pixel per column, until the screen is full
  ['blocks', [64, 64], [80, 24], [44, 22]],
  ['blocks', [64, 32], [80, 24], [64, 16]],
  ['blocks', [1024, 1024], [200, 60], [64, 32]],
  ['blocks', [1024, 256], [40, 60], [40, 5]],
  ['blocks', [64, 4096], [80, 24], [1, 22]],
  // graphics: about 8 pixels per column
  ['iterm2', [128, 128], [80, 24], [16, 8]],
  ['iterm2', [2048, 512], [80, 24], [80, 10]],
  ['kitty', [2048, 512], [80, 24], [64, 8]],
  ['kitty', [1024, 1024], [2, 2], [1, 1]],
] as const)('%s: a picture of %j on a screen of %j fills %j', (drawing, [width, height], [columns, rows], expected) => {
  const cells = fitCells(drawing, { width, height }, { columns, rows })
  expect([cells.columns, cells.rows]).toEqual(expected)
})

test('kitty: chunks that together are the file', async () => {
  const png = await toPng(noise(96, 64))
  expect(png.length).toBeGreaterThan(3 * 4096)
  const terminal = new Terminal(24)
  terminal.write(kittyImage(png, 12, 7))
  const keys = { a: 'T', f: '100', i: '7', p: '1', r: '12', C: '1', q: '2' }
  expect(terminal.shown).toEqual([{ protocol: 'kitty', row: 0, column: 0, keys, data: png }])
})

test.each([4, 3072, 3073, 6144])('kitty: %i bytes', (length) => {
  const bytes = randomBytes(length)
  const text = kittyImage(bytes, 1, 1)
  expect(text.match(/\x1b_G/g)).toHaveLength(Math.ceil(length / 3072))
  const terminal = new Terminal(24)
  terminal.write(text)
  expect(terminal.shown[0]!.data).toEqual(bytes)
})

test('iTerm2: one file, shown inline, within its cells', async () => {
  const png = await toPng(noise(32, 16))
  const terminal = new Terminal(24)
  terminal.write(iterm2Image(png, { columns: 30, rows: 8 }))
  const keys = { inline: '1', size: String(png.length), width: '30', height: '8', preserveAspectRatio: '1' }
  expect(terminal.shown).toEqual([{ protocol: 'iterm2', row: 0, column: 0, keys, data: png }])
})

test('half blocks: a pixel above, a pixel below, and no colour after the line', () => {
  const { data, width, height } = noise(5, 6)
  const terminal = new Terminal(24)
  terminal.write(blockImage({ data, width, height }, { columns: 5, rows: 3 }))
  const pixel = (x: number, y: number) => data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3).join(';')
  for (let row = 0; row < 3; row++) {
    expect(terminal.grid[row]).toHaveLength(5)
    terminal.grid[row]!.forEach((cell, x) =>
      expect(cell).toEqual({ text: '▀', foreground: pixel(x, 2 * row), background: pixel(x, 2 * row + 1) }),
    )
  }
  terminal.write('x')
  expect(terminal.grid[3]).toEqual([{ text: 'x', foreground: undefined, background: undefined }])
})

test('half blocks: made smaller, each is the mean of its area; made larger, pixels become squares', () => {
  const colours = (values: number[][], width: number, cells: { columns: number; rows: number }) => {
    const terminal = new Terminal(24)
    terminal.write(blockImage({ data: Buffer.from(values.flat()), width, height: values.length / width }, cells))
    return terminal.grid
      .slice(0, cells.rows)
      .map((row) => row.map(({ foreground, background }) => [foreground, background]))
  }
  const grey = (...values: number[]) => values.map((value) => [value, value, value])
  // three columns to two: the middle one counts half on both sides
  const halves = [
    ['30;30;30', '40;40;40'],
    ['200;200;200', '20;20;20'],
  ]
  expect(colours(grey(0, 90, 255, 30, 60, 0), 3, { columns: 2, rows: 1 })).toEqual([halves])
  const [red, blue] = [
    [255, 0, 0],
    [0, 0, 255],
  ]
  expect(colours([red, blue, blue, red], 4, { columns: 1, rows: 1 })).toEqual([[['128;0;128', '128;0;128']]])
  const [r, b] = ['255;0;0', '0;0;255']
  expect(colours([red, blue], 2, { columns: 4, rows: 1 })).toEqual([
    [
      [r, r],
      [r, r],
      [b, b],
      [b, b],
    ],
  ])
})

test.each(['kitty', 'iterm2', 'blocks'] as const)(
  "%s: the picture takes its preview's place, above the last line",
  async (drawing) => {
    const terminal = new Terminal(10)
    const tty = screen(40, 10, terminal)
    tty.write('earlier\n'.repeat(20))
    tty.write('step 1/2')
    const picture = new TerminalImage(drawing, tty)
    const preview = noise(8, 8)
    await picture.preview(preview, 8)
    const cells = fitCells(drawing, { width: 64, height: 64 }, tty)
    const top = 20
    // the last line has moved down; the line itself is the next thing that its owner writes
    expect([terminal.row, terminal.column]).toEqual([top + cells.rows, 0])
    tty.write('step 1/2')
    const png = await toPng(noise(64, 64))
    await picture.finish({ image: png, format: 'png', width: 64, height: 64 })
    expect([terminal.row, terminal.column]).toEqual([top + cells.rows, 8])
    expect(terminal.line(top - 1)).toBe('earlier')
    expect(terminal.line(top + cells.rows)).toBe('step 1/2')
    if (drawing === 'blocks') {
      expect(terminal.line(top)).toBe('▀'.repeat(cells.columns))
      expect(terminal.line(top + cells.rows - 1)).toBe('▀'.repeat(cells.columns))
      return
    }
    const [first, last] = terminal.shown
    expect(terminal.shown.map(({ row, column }) => [row, column])).toEqual([
      [top, 0],
      [top, 0],
    ])
    expect(await rgb(first!.data)).toEqual(preview.data)
    expect(last!.data).toEqual(png)
    expect(last!.keys.i).toBe(first!.keys.i)
  },
)

test('previews that follow each other too fast are left out, the picture is not; other formats become PNG', async () => {
  const terminal = new Terminal(24)
  const picture = new TerminalImage('kitty', screen(80, 24, terminal))
  for (let step = 0; step < 5; step++) await picture.preview(noise(8, 8), 8)
  expect(terminal.shown).toHaveLength(1)
  const { data, width, height } = noise(64, 64)
  const webp = await sharp(data, { raw: { width, height, channels: 3 } })
    .webp({ lossless: true })
    .toBuffer()
  await picture.finish({ image: webp, format: 'webp', width, height })
  expect(terminal.shown).toHaveLength(2)
  expect(await rgb(terminal.shown[1]!.data)).toEqual(data)
})
