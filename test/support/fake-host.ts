import { FluxError } from '../../lib/errors.js'
import type { HostEvent, ModelHost } from '../../lib/queue/model-host.js'
import type { JobRequest, ModelDescription } from '../../lib/queue/queue.js'

export interface FakeHostOptions {
  models?: string[]
  loras?: string[]
  /** whether each step waits for `go` */
  isHeld?: boolean
  /** of an image with noise, which does not become smaller when it is compressed */
  previewSize?: number
}

/**
 * Stands in for the models of a queue. The prompt says what happens: `fault`, `refused` and `crash` throw, `crash once`
 * only the first time.
 */
export class FakeHost {
  readonly loaded: string[]
  /** prompts in the order in which they were begun */
  readonly begun: string[] = []
  readonly requests: JobRequest[] = []
  readonly catalogue: Pick<ModelHost['catalogue'], 'models' | 'names' | 'check'>
  readonly #options: FakeHostOptions
  #go: () => void = () => {}
  #mayGo = false
  #crashes = 0
  #noise: Buffer | undefined

  constructor(options: FakeHostOptions = {}) {
    const { models = ['tiny'], loras = [] } = options
    this.#options = options
    this.loaded = models.slice(0, 1)
    this.catalogue = {
      models: async () => new Map(models.map((name) => [name, { description: description(name) }])) as never,
      names: async () => loras,
      check: async ({ model }) => {
        if (!models.includes(model)) throw new FluxError('FLUX_NOT_FOUND', `there is no model named '${model}'`)
      },
    }
  }

  /** as what it stands in for */
  get host(): ModelHost {
    return this as unknown as ModelHost
  }

  /** Lets the running job make its next step; if it has not come to it, as soon as it has. */
  async go(): Promise<void> {
    this.#mayGo = true
    this.#go()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }

  async *draw(request: JobRequest, signal: AbortSignal): AsyncGenerator<HostEvent, void, undefined> {
    const { model, options } = request
    const { prompt, steps = 2, seed = 0, count = 1 } = options
    this.requests.push(request)
    this.begun.push(prompt)
    this.loaded.splice(0, 1, model)
    yield { type: 'stage', stage: 'denoise' }
    if (prompt === 'fault') throw new Error('secret detail')
    if (prompt === 'refused') throw new FluxError('FLUX_BAD_OPTION', 'steps is -1: give a whole number')
    if (prompt === 'crash' || (prompt === 'crash once' && this.#crashes++ === 0))
      throw new FluxError('FLUX_CRASHED', 'the process that computes was ended')
    for (let index = 0; index < count; index++) {
      for (let step = 1; step <= steps; step++) {
        if (this.#options.isHeld) await this.#held(signal)
        signal.throwIfAborted()
        yield {
          type: 'step',
          index,
          step,
          steps,
          sigma: 1,
          sigmaNext: 0,
          ms: 1,
          reused: false,
          ...this.#preview(options),
        }
      }
      const image = Buffer.from(`${prompt} ${seed}`)
      const { width = 64, height = 64 } = options
      const timings = { text: 0, encode: 0, load: 0, denoise: 1, decode: 0 }
      yield {
        type: 'image',
        index,
        image,
        format: 'png',
        width,
        height,
        seed,
        parameters: prompt,
        truncated: [],
        timings,
      }
    }
  }

  async devices(): Promise<{ name: string; memoryFree: number; memoryTotal: number }[]> {
    return [{ name: 'CPU', memoryFree: 1, memoryTotal: 2 }]
  }

  async close(): Promise<void> {}

  async #held(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    while (!this.#mayGo)
      await new Promise<void>((resolve, reject) => {
        this.#go = resolve
        signal.addEventListener('abort', () => reject(signal.reason as Error))
      })
    this.#mayGo = false
  }

  #preview({ preview }: JobRequest['options']) {
    if (!preview) return {}
    const { previewSize = 8 } = this.#options
    this.#noise ??= noise(previewSize * previewSize * 3)
    return { preview: { data: this.#noise, width: previewSize, height: previewSize } }
  }
}

function description(name: string): ModelDescription {
  return {
    ...{ name, changedAt: 1, bytes: 1, reads: null, editsReferences: false, components: [], hasPreviewDecoder: false },
    defaults: { width: 64, height: 64, steps: 2, guidance: null },
  }
}

function noise(length: number): Buffer {
  const data = Buffer.alloc(length)
  let state = 1
  for (let i = 0; i < length; i++) data[i] = state = (state * 48271) % 2147483647
  return data
}
