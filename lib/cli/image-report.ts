import type { ImageEvent, StageEvent, StepEvent, Stage, WarningEvent } from '../index.js'
import { formatBytes, formatSeconds } from './format.js'
import { liveLine, printTrial } from './live-line.js'
import { ImageProgress } from './image-progress.js'
import { TerminalImage, type Drawing } from './terminal-image.js'

/** An image that has been written. */
export interface GeneratedImage {
  image: ImageEvent
  path: string
  steps: number
  /** milliseconds by stage; everything loaded before the first stage counts as `load` */
  timings: Record<Stage, number>
  /** milliseconds in total */
  ms: number
}

/** What the command reports while it generates an image, and at the end. */
export interface ImageReport {
  /** @param share the part of the weights that is loaded, 0 to 1 */
  load(share: number): void
  /** a GPU's driver is tried before its first use, which takes seconds */
  trial(backend: 'cuda' | 'metal' | 'vulkan'): void
  event(event: StageEvent | StepEvent | WarningEvent): void | Promise<void>
  /** removes the line at the bottom of the terminal, after success and after failure */
  stop(): void
  finish(generated: GeneratedImage): void | Promise<void>
}

interface ReportOptions {
  json?: true
  quiet?: true
  output?: string
  preview?: string
  previewMethod?: 'linear' | 'taef1' | 'autoencoder'
}

/** @param drawing shows the image as well; only for a terminal with text output */
export async function imageReport(
  options: ReportOptions,
  drawing: Drawing | undefined,
  began: number,
): Promise<ImageReport> {
  if (options.json) return jsonReport(options.preview)
  return options.quiet ? SILENCE : textReport(options, drawing, began)
}

const SILENCE: ImageReport = { load() {}, trial() {}, event() {}, stop() {}, finish() {} }

/** Prints one JSON object per line on stdout. Units are seconds and bytes. */
function jsonReport(preview: string | undefined): ImageReport {
  const seconds = (ms: number) => Math.round(ms) / 1000
  const print = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`)
  return {
    ...SILENCE,
    event(event) {
      if (event.type !== 'step') return void print(event)
      const { preview: shown, ms, ...rest } = event
      print({ ...rest, seconds: seconds(ms), ...(shown ? { preview } : {}) })
    },
    finish({ image: { image, timings: _, ...rest }, path, ...generated }) {
      print({
        ...rest,
        path,
        bytes: image.length,
        steps: generated.steps,
        seconds: seconds(generated.ms),
        timings: Object.fromEntries(Object.entries(generated.timings).map(([stage, ms]) => [stage, seconds(ms)])),
        memory: { peak: peakMemory() },
      })
    },
  }
}

/** Shows a live line on a terminal, or a few lines in a log. */
async function textReport(
  { output, previewMethod }: ReportOptions,
  drawing: Drawing | undefined,
  began: number,
): Promise<ImageReport> {
  const screen = drawing && new TerminalImage(drawing)
  const progress = new ImageProgress(began)
  const line = await liveLine(() => progress.text(performance.now()))
  return {
    load: (share) => progress.load(share),
    trial: printTrial,
    async event(event) {
      const now = performance.now()
      if (event.type === 'warning') return void process.stderr.write(`${event.message}\n`)
      progress.update(event, now)
      const log = process.stderr.isTTY ? undefined : progress.logLine(event, now)
      if (log) process.stderr.write(`${log}\n`)
      if (event.type === 'step' && event.preview)
        await screen?.preview(event.preview, previewMethod === undefined || previewMethod === 'linear' ? 8 : 1)
    },
    stop: () => line.stop(),
    async finish(generated) {
      await screen?.finish(generated.image)
      if (generated.image.truncated.includes('t5')) {
        process.stderr.write(
          'The prompt is longer than T5 reads, so its end was ignored; --max-sequence-length goes up to 512.\n',
        )
      }
      const stream = output === '-' ? process.stderr : process.stdout
      stream.write(`${imageSummary(generated, peakMemory())}\n`)
    },
  }
}

/**
 * `out.png  256x256  seed 1  4 steps  6.1 s (text 0.40 s, load 0.20 s, 4 x 0.90 s, decode 1.1 s)  peak memory 812 MB`
 */
export function imageSummary(
  { image: { width, height, seed }, path, steps, timings, ms }: GeneratedImage,
  memory: number,
): string {
  const stages = [timings.text, timings.encode, timings.load, timings.denoise / steps, timings.decode]
  const [text, encode, load, step, decode] = stages.map((ms) => formatSeconds(ms / 1000))
  const images = timings.encode > 1 ? ` images ${encode},` : ''
  return [
    path,
    `${width}x${height}`,
    `seed ${seed}`,
    `${steps} step${steps === 1 ? '' : 's'}`,
    `${formatSeconds(ms / 1000)} (text ${text},${images} load ${load}, ${steps} x ${step}, decode ${decode})`,
    `peak memory ${formatBytes(memory)}`,
  ].join('  ')
}

/** Returns the peak memory of this process in bytes, including the parts of mapped files that were in memory. */
function peakMemory(): number {
  return process.resourceUsage().maxRSS * 1024
}
