import { randomInt } from 'node:crypto'
import type { ImageEvent, LatentPreview } from '../index.js'

/** Ways to draw an image in a terminal. */
export const DRAWINGS = ['kitty', 'iterm2', 'blocks'] as const
export type Drawing = (typeof DRAWINGS)[number]

/** A part of the screen, in characters. */
export interface Cells {
  columns: number
  rows: number
}

type Screen = Pick<NodeJS.WriteStream, 'write'> & Partial<Cells>

/** keeps part of the earlier output visible on a tall screen */
const MOST_ROWS = 32
/** characters of base64 in one kitty command, as the protocol requires */
const CHUNK = 4096
/** a tiny model takes steps faster than the eye can follow, and each image sends thousands of colours */
const INTERVAL_MS = 100

/** terminals with kitty graphics */
const KITTY_TERMS = ['xterm-kitty', 'xterm-ghostty']
/**
 * Terminals with inline images of iTerm2. VS Code is not listed, because its images are off by default; half blocks
 * always work.
 */
const ITERM2_PROGRAMS = ['iTerm.app', 'WezTerm', 'mintty']

/** Finds out from the environment how this terminal can show images. Returns undefined if it should not show any. */
export function detectDrawing(env: NodeJS.ProcessEnv): Drawing | undefined {
  const { TERM = '', TERM_PROGRAM = '', COLORTERM = '' } = env
  if (env.CI || TERM === 'dumb') return undefined
  // a multiplexer keeps the variables of the terminal in which it was started, but does not forward its graphics
  const multiplexer = Boolean(env.TMUX || env.STY) || /^(screen|tmux)/.test(TERM)
  if (!multiplexer) {
    if (ITERM2_PROGRAMS.includes(TERM_PROGRAM)) return 'iterm2'
    if (KITTY_TERMS.includes(TERM)) return 'kitty'
    // only this variable passes through ssh; together with a TERM_PROGRAM it was inherited by another terminal
    if (!TERM_PROGRAM && env.LC_TERMINAL === 'iTerm2') return 'iterm2'
  }
  const truecolor = COLORTERM === 'truecolor' || COLORTERM === '24bit' || Boolean(env.WT_SESSION)
  return truecolor && !env.NO_COLOR ? 'blocks' : undefined
}

/**
 * Returns the largest part of the screen that an image fills without distortion. The image is never enlarged: half
 * blocks have one pixel per column, graphics 8 pixels, which is about the size in a browser. A character is assumed to
 * be twice as high as wide.
 */
export function fitCells(drawing: Drawing, { width, height }: { width: number; height: number }, screen: Cells): Cells {
  // the terminal computes the width of a kitty image from its rows, and with narrower characters it covers more columns
  const most = drawing === 'kitty' ? Math.floor(0.8 * screen.columns) : screen.columns
  const columns = Math.min(most, drawing === 'blocks' ? width : Math.ceil(width / 8))
  const rows = Math.min(screen.rows - 2, MOST_ROWS, Math.round((columns * height) / width / 2))
  const fitting = { columns: Math.min(columns, Math.round((2 * rows * width) / height)), rows }
  return { columns: Math.max(1, fitting.columns), rows: Math.max(1, fitting.rows) }
}

/**
 * Encodes a PNG for the kitty graphics protocol. It is drawn at the cursor, which does not move.
 *
 * @param id the terminal's name for the image; a later image with the same id replaces it
 * Source: sw.kovidgoyal.net/kitty/graphics-protocol
 */
export function kittyImage(png: Buffer, rows: number, id: number): string {
  const base64 = png.toString('base64')
  let text = ''
  for (let begin = 0; begin < base64.length; begin += CHUNK) {
    // q=2 suppresses responses, which would appear as typed input at the next prompt
    const first = begin === 0 ? `a=T,f=100,i=${id},p=1,r=${rows},C=1,q=2,` : ''
    const more = begin + CHUNK < base64.length ? 1 : 0
    text += `\x1b_G${first}m=${more};${base64.slice(begin, begin + CHUNK)}\x1b\\`
  }
  return text
}

/** Encodes a PNG as an inline image of iTerm2, drawn at the cursor. Source: iterm2.com/documentation-images.html */
export function iterm2Image(png: Buffer, { columns, rows }: Cells): string {
  const size = `size=${png.length};width=${columns};height=${rows};preserveAspectRatio=1`
  return `\x1b]1337;File=inline=1;${size}:${png.toString('base64')}\x07`
}

/** Draws RGB bytes as half blocks, two pixels per character. Each line ends at the start of the next line. */
export function blockImage({ data, width, height }: LatentPreview, { columns, rows }: Cells): string {
  const pixels = resample(data, width, height, columns, 2 * rows)
  const colour = (x: number, y: number) => pixels.subarray(3 * (y * columns + x), 3 * (y * columns + x) + 3).join(';')
  let text = ''
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < columns; x++) text += `\x1b[38;2;${colour(x, 2 * row)};48;2;${colour(x, 2 * row + 1)}m▀`
    text += '\x1b[0m\r\n'
  }
  return text
}

/** Resizes the image; every new pixel is the mean of the area that it covers. */
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

/** Splits `length` pixels into equal parts. Returns the pixels that each part covers, and their shares of the part. */
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

/** An image above the last line of a terminal. It is redrawn in the same place while it is generated. */
export class TerminalImage {
  readonly #drawing: Drawing
  readonly #screen: Screen
  // every run has a new id, so that images that scrolled away are not replaced
  readonly #id = randomInt(1, 2 ** 32)
  #cells: Cells | undefined
  #drawn = -Infinity

  constructor(drawing: Drawing, screen: Screen = process.stderr) {
    this.#drawing = drawing
    this.#screen = screen
  }

  /** @param scale the number of pixels of the final image per pixel of the preview, along one side */
  async preview(preview: LatentPreview, scale: number): Promise<void> {
    if (performance.now() - this.#drawn < INTERVAL_MS) return
    const { data, width, height } = preview
    const cells = this.#reserve(scale * width, scale * height)
    if (this.#drawing === 'blocks') return this.#draw(blockImage(preview, cells))
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
    // sharp encoded the other formats, so it is installed
    const png = format === 'png' ? image : await (await import('sharp')).default(image).png().toBuffer()
    if (this.#drawing !== 'blocks') return this.#drawPng(png, cells)
    const { PNG } = (await import('pngjs')).default
    const rgba = PNG.sync.read(png).data
    const data = Buffer.alloc(3 * width * height)
    for (let i = 0; i < width * height; i++) rgba.copy(data, 3 * i, 4 * i, 4 * i + 3)
    this.#draw(blockImage({ data, width, height }, cells))
  }

  #drawPng(png: Buffer, cells: Cells): void {
    this.#draw(this.#drawing === 'kitty' ? kittyImage(png, cells.rows, this.#id) : iterm2Image(png, cells))
  }

  /** Moves the last line down once, by as many rows as the image needs. */
  #reserve(width: number, height: number): Cells {
    if (!this.#cells) {
      const screen = { columns: this.#screen.columns || 80, rows: this.#screen.rows || 24 }
      this.#cells = fitCells(this.#drawing, { width, height }, screen)
      this.#screen.write(`\r\x1b[K${'\n'.repeat(this.#cells.rows)}`)
    }
    return this.#cells
  }

  /** Moves the cursor up and back. A terminal that supports mode 2026 shows the change at once. */
  #draw(text: string): void {
    this.#drawn = performance.now()
    this.#screen.write(`\x1b[?2026h\x1b7\r\x1b[${this.#cells!.rows}A${text}\x1b8\x1b[?2026l`)
  }
}
