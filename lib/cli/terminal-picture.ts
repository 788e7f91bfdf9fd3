import { randomInt } from 'node:crypto'
import type { ImageEvent, LatentPreview } from '../index.js'

/** Ways of drawing a picture in a terminal. */
export const DRAWINGS = ['kitty', 'iterm2', 'blocks'] as const
export type Drawing = (typeof DRAWINGS)[number]

/** A part of the screen, in characters. */
export interface Cells {
  columns: number
  rows: number
}

type Screen = Pick<NodeJS.WriteStream, 'write'> & Partial<Cells>

/** so that a picture leaves something of what was on a tall screen */
const MOST_ROWS = 32
/** of base64 in one kitty command, as the protocol has it */
const CHUNK = 4096
/** a tiny model is faster than the eye, and each picture has thousands of colours to send */
const INTERVAL_MS = 100

/** kitty graphics */
const KITTY_TERMS = ['xterm-kitty', 'xterm-ghostty']
/** inline images of iTerm2; not VS Code, whose images are off by default: half blocks are seen there by everybody. */
const ITERM2_PROGRAMS = ['iTerm.app', 'WezTerm', 'mintty']

/** How this terminal shows pictures, as far as its environment tells; undefined where it had better not. */
export function detectDrawing(env: NodeJS.ProcessEnv): Drawing | undefined {
  const { TERM = '', TERM_PROGRAM = '', COLORTERM = '' } = env
  if (env.CI || TERM === 'dumb') return undefined
  // a multiplexer keeps the variables of the terminal that it was started in, but does not pass its graphics on
  const multiplexer = Boolean(env.TMUX || env.STY) || /^(screen|tmux)/.test(TERM)
  if (!multiplexer) {
    if (ITERM2_PROGRAMS.includes(TERM_PROGRAM)) return 'iterm2'
    if (KITTY_TERMS.includes(TERM)) return 'kitty'
    // through ssh only this one passes; beside a TERM_PROGRAM it was inherited by another terminal
    if (!TERM_PROGRAM && env.LC_TERMINAL === 'iTerm2') return 'iterm2'
  }
  const truecolor = COLORTERM === 'truecolor' || COLORTERM === '24bit' || Boolean(env.WT_SESSION)
  return truecolor && !env.NO_COLOR ? 'blocks' : undefined
}

/**
 * The largest part of the screen that a picture fills undistorted, never larger than it is: with half blocks a pixel per column, with
 * graphics 8 pixels, about as browsers show it. A character is taken to be twice as high as wide.
 */
export function fitCells(drawing: Drawing, { width, height }: { width: number; height: number }, screen: Cells): Cells {
  // the terminal computes a kitty picture's width from its rows, and narrower characters make that more columns
  const most = drawing === 'kitty' ? Math.floor(0.8 * screen.columns) : screen.columns
  const columns = Math.min(most, drawing === 'blocks' ? width : Math.ceil(width / 8))
  const rows = Math.min(screen.rows - 2, MOST_ROWS, Math.round((columns * height) / width / 2))
  const fitting = { columns: Math.min(columns, Math.round((2 * rows * width) / height)), rows }
  return { columns: Math.max(1, fitting.columns), rows: Math.max(1, fitting.rows) }
}

/**
 * A PNG by the kitty graphics protocol, from the cursor on, which stays where it is.
 *
 * @param id the terminal's name for the picture: another one with it takes its place
 * Source: sw.kovidgoyal.net/kitty/graphics-protocol
 */
export function kittyPicture(png: Buffer, rows: number, id: number): string {
  const base64 = png.toString('base64')
  let text = ''
  for (let begin = 0; begin < base64.length; begin += CHUNK) {
    // q=2: no answers, which would appear as if typed at the next prompt
    const first = begin === 0 ? `a=T,f=100,i=${id},p=1,r=${rows},C=1,q=2,` : ''
    const more = begin + CHUNK < base64.length ? 1 : 0
    text += `\x1b_G${first}m=${more};${base64.slice(begin, begin + CHUNK)}\x1b\\`
  }
  return text
}

/** A PNG as inline image of iTerm2, from the cursor on. Source: iterm2.com/documentation-images.html */
export function iterm2Picture(png: Buffer, { columns, rows }: Cells): string {
  const size = `size=${png.length};width=${columns};height=${rows};preserveAspectRatio=1`
  return `\x1b]1337;File=inline=1;${size}:${png.toString('base64')}\x07`
}

/** RGB bytes as half blocks, two pixels in each character; lines end at the beginning of the next one. */
export function blockPicture({ data, width, height }: LatentPreview, { columns, rows }: Cells): string {
  const pixels = resample(data, width, height, columns, 2 * rows)
  const colour = (x: number, y: number) => pixels.subarray(3 * (y * columns + x), 3 * (y * columns + x) + 3).join(';')
  let text = ''
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < columns; x++) text += `\x1b[38;2;${colour(x, 2 * row)};48;2;${colour(x, 2 * row + 1)}m▀`
    text += '\x1b[0m\r\n'
  }
  return text
}

/** Every pixel is the mean of the area that it covers. */
function resample(rgb: Uint8Array, width: number, height: number, newWidth: number, newHeight: number): Uint8Array {
  const result = new Uint8Array(3 * newWidth * newHeight)
  const across = coverage(width, newWidth)
  coverage(height, newHeight).forEach((lines, y) => {
    across.forEach((columns, x) => {
      const sum: [number, number, number] = [0, 0, 0]
      for (const [line, high] of lines) {
        for (const [column, wide] of columns) {
          const from = 3 * (line * width + column)
          for (let i = 0; i < 3; i++) sum[i]! += high * wide * rgb[from + i]!
        }
      }
      result.set(sum.map(Math.round), 3 * (y * newWidth + x))
    })
  })
  return result
}

/** For each of `parts` equal parts of `length` pixels: the pixels it covers, and their shares of it. */
function coverage(length: number, parts: number): [pixel: number, share: number][][] {
  return Array.from({ length: parts }, (_, part) => {
    const [begin, end] = [(part * length) / parts, ((part + 1) * length) / parts]
    const pixels: [number, number][] = []
    for (let pixel = Math.floor(begin); pixel < end; pixel++) {
      const share = (Math.min(end, pixel + 1) - Math.max(begin, pixel)) / (end - begin)
      if (share > 0) pixels.push([pixel, share])
    }
    return pixels
  })
}

/** A picture above the last line of a terminal, drawn anew in the same place while it is made. */
export class TerminalPicture {
  readonly #drawing: Drawing
  readonly #screen: Screen
  // another one for every run: pictures that scrolled away keep theirs
  readonly #id = randomInt(1, 2 ** 32)
  #cells: Cells | undefined
  #drawn = -Infinity

  constructor(drawing: Drawing, screen: Screen = process.stderr) {
    this.#drawing = drawing
    this.#screen = screen
  }

  /** @param scale pixels of the finished picture in one of the preview */
  async preview(preview: LatentPreview, scale: number): Promise<void> {
    if (performance.now() - this.#drawn < INTERVAL_MS) return
    const { data, width, height } = preview
    const cells = this.#reserve(scale * width, scale * height)
    if (this.#drawing === 'blocks') return this.#draw(blockPicture(preview, cells))
    const { encodeImage } = await import('../images/encode.js')
    this.#drawPng(await encodeImage(data, width, height), cells)
  }

  async finish({
    image,
    format,
    width,
    height,
  }: Pick<ImageEvent, 'image' | 'format' | 'width' | 'height'>): Promise<void> {
    const cells = this.#reserve(width, height)
    // the other formats were made by sharp, so it is there
    const png = format === 'png' ? image : await (await import('sharp')).default(image).png().toBuffer()
    if (this.#drawing !== 'blocks') return this.#drawPng(png, cells)
    const { PNG } = (await import('pngjs')).default
    const rgba = PNG.sync.read(png).data
    const data = Buffer.alloc(3 * width * height)
    for (let i = 0; i < width * height; i++) rgba.copy(data, 3 * i, 4 * i, 4 * i + 3)
    this.#draw(blockPicture({ data, width, height }, cells))
  }

  #drawPng(png: Buffer, cells: Cells): void {
    this.#draw(this.#drawing === 'kitty' ? kittyPicture(png, cells.rows, this.#id) : iterm2Picture(png, cells))
  }

  /** Moves the last line down, once, by as many rows as the picture needs. */
  #reserve(width: number, height: number): Cells {
    if (!this.#cells) {
      const screen = { columns: this.#screen.columns || 80, rows: this.#screen.rows || 24 }
      this.#cells = fitCells(this.#drawing, { width, height }, screen)
      this.#screen.write(`\r\x1b[K${'\n'.repeat(this.#cells.rows)}`)
    }
    return this.#cells
  }

  /** The cursor goes up and comes back; a terminal that knows mode 2026 shows the change as one. */
  #draw(text: string): void {
    this.#drawn = performance.now()
    this.#screen.write(`\x1b[?2026h\x1b7\r\x1b[${this.#cells!.rows}A${text}\x1b8\x1b[?2026l`)
  }
}
