import type { GenerateEvent, Stage } from '../index.js'
import { formatPercent, formatSeconds } from './format.js'
import { drawBar } from './live-line.js'

const STAGES: Record<Stage, string> = {
  text: 'encoding the text',
  encode: 'encoding the images',
  load: 'loading the model',
  denoise: 'denoising',
  decode: 'decoding the image',
}

/** The shortest time between two lines for steps in a log. */
const LOG_INTERVAL_MS = 10_000

/** Describes the progress of an image as a line of text. All times are milliseconds of the same clock. */
export class ImageProgress {
  #stage: Stage | undefined
  /** start of the stage, or end of the last step */
  #since: number
  #loaded = 0
  #step = 0
  #steps = 0
  /** total of all steps so far */
  #ms = 0
  #logged: number

  constructor(now: number) {
    this.#since = now
    this.#logged = now
  }

  /** @param share the loaded part of the model's weights, 0 to 1 */
  load(share: number): void {
    this.#loaded = share
  }

  update(event: GenerateEvent, now: number): void {
    this.#since = now
    if (event.type === 'stage') this.#stage = event.stage
    // another image begins
    if (event.type === 'stage' && event.stage === 'text') [this.#step, this.#ms] = [0, 0]
    if (event.type !== 'step') return
    this.#step = event.step
    this.#steps = event.steps
    this.#ms += event.ms
  }

  /** `step 2/4  ████████████░░░░░░░░░░░░  0.92 s/step, 1.8 s left` */
  text(now: number): string {
    const elapsed = now - this.#since
    if (this.#step > 0 && this.#stage === 'denoise') {
      const perStep = this.#ms / this.#step
      const left = Math.max(0, perStep * (this.#steps - this.#step) - elapsed)
      const speed = `${formatSeconds(perStep / 1000)}/step, ${formatSeconds(left / 1000)} left`
      return `step ${this.#step}/${this.#steps}  ${drawBar(this.#step / this.#steps)}  ${speed}`
    }
    const stage = this.#stage ?? 'load'
    const loading = stage !== 'denoise' && this.#loaded > 0 && this.#loaded < 1
    const share = loading ? `, ${formatPercent(this.#loaded)} of the weights loaded` : ''
    return `${STAGES[stage]}${share}  ${formatSeconds(elapsed / 1000)}`
  }

  /** Returns an event's line in a log, which keeps every line: each stage gets a line, steps only now and then. */
  logLine(event: GenerateEvent, now: number): string | undefined {
    if (event.type === 'stage') return STAGES[event.stage]
    if (event.type === 'step' && now - this.#logged >= LOG_INTERVAL_MS) {
      this.#logged = now
      return this.text(now)
    }
    return undefined
  }
}
