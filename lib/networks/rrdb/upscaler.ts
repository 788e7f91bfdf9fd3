import { FluxError } from '../../errors.js'
import { inBackground } from '../../images/background.js'
import type { Box } from '../../images/box-to-bytes.js'
import { requireRgbImage, type RgbImage } from '../../images/rgb-image.js'
import { badOption, requireSignal, requireWhole } from '../../options/checks.js'
import { exactly, sides } from '../array-checks.js'
import { requireFinite } from '../finite.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { busyNetwork, LoadedNetwork, type NetworkOptions } from '../network.js'
import { withinMemory } from '../within-memory.js'
import { scaleOf, type RrdbConfig } from './layout.js'
import { cellsOf, CORES, spans, type ReadPixel, type Span } from './tiles.js'

export interface UpscaleOptions {
  /**
   * side of the tiles in pixels of the image, 32 to 4096; each is evaluated with a border of 32 (2 x networks that read
   * squares of 2 x 2 pixels: 64). Smaller ones need less memory and more time. @default as large as memory allows, at
   * most 320
   */
  tile?: number
  signal?: AbortSignal
  /** fraction of the image that is done, 0 to 1 */
  onProgress?: (progress: number) => void
}

/** of width times height of a result, as for images that are read */
const MOST_PIXELS = 2 ** 28
const MOST_SIDE = 2 ** 16

/**
 * RRDBNet, which enlarges images (ESRGAN, Real-ESRGAN). github.com/XPixelGroup/BasicSR, `archs/rrdbnet_arch.py`. Large
 * images are evaluated in tiles that overlap.
 */
export class Upscaler extends LoadedNetwork<RrdbConfig> {
  /** whether a call is at work, also between two tiles */
  #busy = false

  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<RrdbConfig>, options: NetworkOptions = {}): Promise<Upscaler> {
    const file = await openNetworkFile('rrdb', source)
    return new Upscaler(file, await LoadedNetwork.start(file, options))
  }

  /**
   * Bytes that a tile of this size in pixels, with its border, takes in addition to the weights. Only the file's header
   * is read.
   */
  static async activationBytes(
    source: NetworkSource<RrdbConfig>,
    height: number,
    width: number,
    options: NetworkOptions = {},
  ): Promise<number> {
    const file = await openNetworkFile('rrdb', source)
    const { unshuffle } = file.config
    const shape = [Math.ceil(height / unshuffle), Math.ceil(width / unshuffle)]
    return LoadedNetwork.measure(file, options, 'upscale', shape)
  }

  /** how many times as large the result is along one side: 1, 2, 4 or 8 */
  get scale(): number {
    return scaleOf(this.config)
  }

  /**
   * @param image [3, height, width] in 0 to 1
   * @returns [3, scale height, scale width], approximately in 0 to 1
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_BAD_FILE for weights that make no finite numbers,
   *   FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's reason when aborted
   */
  async upscale(
    image: Float32Array,
    height: number,
    width: number,
    options: UpscaleOptions = {},
  ): Promise<Float32Array> {
    sides(height, width, 1)
    exactly('image', image, 3 * height * width)
    const size = this.#sizeOf(height, width)
    const output = new Float32Array(3 * size.height * size.width)
    const read: ReadPixel = (channel, y, x) => image[(channel * height + y) * width + x]!
    const write = (part: Float32Array, box: Box) => {
      for (let channel = 0; channel < 3; channel++) {
        for (let y = 0; y < box.height; y++) {
          const from = (channel * box.partHeight + box.partTop + y) * box.partWidth + box.partLeft
          const to = (channel * size.height + box.top + y) * size.width + box.left
          output.set(part.subarray(from, from + box.width), to)
        }
      }
    }
    await this.#alone(() => this.#inTiles(read, { height, width }, options, write))
    return output
  }

  /**
   * Enlarges an image. Alpha is scaled by Lanczos.
   *
   * @param image as `readImage` returns it
   * @throws {FluxError} as {@link upscale}
   */
  async upscaleImage(image: RgbImage, options: UpscaleOptions = {}): Promise<RgbImage> {
    requireRgbImage('image', image)
    const { data, height, width, alpha } = image
    const size = this.#sizeOf(height, width)
    const output = new Uint8Array(3 * size.height * size.width)
    const read: ReadPixel = (channel, y, x) => data[3 * (y * width + x) + channel]! / 255
    const write = async (part: Float32Array, box: Box) => {
      const bytes = await inBackground('boxToBytes', [part, box], [part.buffer as ArrayBuffer], options.signal)
      for (let y = 0; y < box.height; y++) {
        const row = bytes.subarray(3 * y * box.width, 3 * (y + 1) * box.width)
        output.set(row, 3 * ((box.top + y) * size.width + box.left))
      }
    }
    await this.#alone(() => this.#inTiles(read, { height, width }, options, write))
    const enlarged: RgbImage = { data: output, ...size }
    if (!alpha) return enlarged
    const sizes = [[height, width, 1] as const, [size.height, size.width] as const] as const
    return {
      ...enlarged,
      alpha: await inBackground('resizePlanes', [alpha, ...sizes, 'stretch', 'lanczos', [0]], [], options.signal),
    }
  }

  #sizeOf(height: number, width: number): { height: number; width: number } {
    const size = { height: this.scale * height, width: this.scale * width }
    if (size.height <= MOST_SIDE && size.width <= MOST_SIDE && size.height * size.width <= MOST_PIXELS) return size
    const most = Math.floor(MOST_PIXELS / this.scale ** 2)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `the image is ${width} x ${height} pixels, too many to be made ${this.scale} times as large: give one of at most ${most} pixels, with sides of at most ${MOST_SIDE / this.scale}`,
    )
  }

  async #alone(work: () => Promise<void>): Promise<void> {
    if (this.#busy) throw busyNetwork()
    this.#busy = true
    try {
      await work()
    } finally {
      this.#busy = false
    }
  }

  /** Evaluates the image in tiles of the wanted size, or of the largest size that memory allows. */
  async #inTiles(
    read: ReadPixel,
    size: { height: number; width: number },
    { tile, signal, onProgress }: UpscaleOptions,
    write: (part: Float32Array, box: Box) => void | Promise<void>,
  ): Promise<void> {
    requireSignal(signal)
    if (tile !== undefined) requireWhole('tile', tile, 32, 4096)
    if (onProgress !== undefined && typeof onProgress !== 'function')
      throw badOption('onProgress', onProgress, 'a function')
    const { unshuffle, doublings } = this.config
    const cores = tile === undefined ? CORES : [Math.ceil(tile / unshuffle)]
    const [rows, columns] = [Math.ceil(size.height / unshuffle), Math.ceil(size.width / unshuffle)]
    const enlarged = { height: this.scale * size.height, width: this.scale * size.width }
    await withinMemory(cores, async (core) => {
      const tiles = spans(rows, core).flatMap((down) => spans(columns, core).map((across) => ({ down, across })))
      for (const [done, { down, across }] of tiles.entries()) {
        const cells = cellsOf(read, size, this.config, down, across)
        const [part] = await this.run('upscale', [down.count, across.count], [cells], signal)
        requireFinite(part!, 'the enlarged image', this.path)
        await write(part!, boxOf(down, across, 2 ** doublings, enlarged))
        onProgress?.((done + 1) / tiles.length)
      }
    })
  }
}

/**
 * The pixels that are kept of a tile.
 *
 * @param unit pixels of the result for each cell, along one side
 */
function boxOf(down: Span, across: Span, unit: number, result: { height: number; width: number }): Box {
  return {
    top: down.begin * unit,
    left: across.begin * unit,
    // a mirrored border is not kept
    height: Math.min(down.end * unit, result.height) - down.begin * unit,
    width: Math.min(across.end * unit, result.width) - across.begin * unit,
    partTop: (down.begin - down.first) * unit,
    partLeft: (across.begin - across.first) * unit,
    partHeight: down.count * unit,
    partWidth: across.count * unit,
  }
}
