import { fileURLToPath } from 'node:url'
import type { Estimate } from '../cost/estimate.js'
import { FluxError } from '../errors.js'
import type { ModelFiles } from '../families/registry.js'
import type { GenerateEvent, ImageEvent } from '../jobs/events.js'
import { startChild, type Child } from '../native/child-process.js'
import type { Device } from '../native/devices.js'
import type { ProfileRow } from '../networks/network.js'
import { onAbort, untilAborted } from '../options/abort.js'
import { warnProcess } from '../options/warn.js'
import type { DrawOptions, Engine } from './engine.js'
import type { LoadOptions } from './load-options.js'
import { receivedError, type CallMessage, type ReplyMessage } from './child-messages.js'

type Process = Child<ReplyMessage, CallMessage>

type Unnumbered<T> = T extends { id: number } ? Omit<T, 'id'> : never

/** What waits for the replies to one call. */
interface Call {
  /** the process has received it */
  begun: boolean
  event(event: GenerateEvent): void
  resolve(value: unknown): void
  reject(error: unknown): void
}

/** A cancelled call ends within a step. After this time the driver hangs, and the process is ended. */
const PATIENCE_MS = 20_000
/** The process says that it is alive every five seconds. After so many without a word it is ended. */
const MOST_SILENT_SECONDS = 120

const program = fileURLToPath(new URL('./engine-process.js', import.meta.url))

/**
 * Makes images in a child process. When it crashes, the calls in it fail with FLUX_CRASHED, and the next call starts
 * another one, which loads the model again.
 */
export class ChildEngine implements Engine {
  readonly endsAtOnce = true
  readonly #files: ModelFiles
  readonly #options: LoadOptions
  #child: Promise<Process> | undefined
  readonly #calls = new Map<number, Call>()
  #lastId = 0
  #isClosed = false

  private constructor(files: ModelFiles, options: LoadOptions) {
    this.#files = files
    this.#options = options
  }

  /** @param files all on this machine */
  static async load(files: ModelFiles, options: LoadOptions): Promise<ChildEngine> {
    const engine = new ChildEngine(files, options)
    try {
      await engine.#started(options.signal)
      return engine
    } catch (error) {
      await engine.close()
      throw error
    }
  }

  async *draw(
    options: DrawOptions & { seed: number },
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent, ImageEvent, undefined> {
    const left = new AbortController()
    const unlisten = onAbort(signal, () => left.abort(signal.reason))
    if (signal.aborted) left.abort(signal.reason)
    const events: GenerateEvent[] = []
    let over = false
    let wake = () => {}
    const onEvent = (event: GenerateEvent) => {
      events.push(event)
      wake()
    }
    const drawn = this.#call({ type: 'draw', options, folder: process.cwd() }, left.signal, onEvent)
    const ended = () => {
      over = true
      wake()
    }
    drawn.then(ended, ended)
    try {
      for (;;) {
        while (events.length === 0 && !over) await new Promise<void>((resolve) => (wake = resolve))
        const event = events.shift()
        if (!event) return (await drawn) as ImageEvent
        yield event
      }
    } finally {
      unlisten()
      left.abort()
      await drawn.catch(() => {}) // the next call begins when this one has ended
    }
  }

  estimate(options: DrawOptions, signal?: AbortSignal): Promise<Estimate> {
    return this.#call({ type: 'estimate', options, folder: process.cwd() }, signal) as Promise<Estimate>
  }

  async profile(work: () => Promise<unknown>): Promise<ProfileRow[]> {
    const ended = new AbortController()
    const rows = this.#call({ type: 'profile' }, ended.signal) as Promise<ProfileRow[]>
    rows.catch(() => {}) // awaited below
    try {
      await work()
    } finally {
      ended.abort()
    }
    return rows
  }

  device(): Promise<Device> {
    return this.#call({ type: 'device' }, undefined) as Promise<Device>
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const child = await this.#child?.catch(() => undefined)
    if (!child) return
    const ended = new Promise<void>((resolve) => child.onEnd(() => resolve()))
    child.hold(true)
    child.kill('SIGKILL')
    await ended
  }

  /** Sends a call and waits for its value. `signal` ends it there, and it then rejects with the signal's reason. */
  async #call(
    message: Unnumbered<Exclude<CallMessage, { type: 'load' | 'abort' }>>,
    signal: AbortSignal | undefined,
    onEvent: (event: GenerateEvent) => void = () => {},
    isFirst = true,
  ): Promise<unknown> {
    const child = await untilAborted(this.#started(), signal)
    const id = ++this.#lastId
    let timer: NodeJS.Timeout | undefined
    const abort = () => {
      child.post({ type: 'abort', id })
      timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
    }
    const unlisten = signal && onAbort(signal, abort)
    try {
      return await new Promise((resolve, reject) => {
        this.#calls.set(id, { begun: false, event: onEvent, resolve, reject })
        child.hold(true)
        child.post({ ...message, id } as CallMessage)
        if (signal?.aborted) abort()
      })
    } catch (error) {
      signal?.throwIfAborted()
      // it crashed before, and this call was the first to find out
      const isLate = isFirst && error instanceof Crash && !this.#calls.get(id)?.begun
      if (isLate) return this.#call(message, signal, onEvent, false)
      throw error
    } finally {
      clearTimeout(timer)
      unlisten?.()
      this.#calls.delete(id)
      if (this.#calls.size === 0 && !this.#isClosed) child.hold(false) // while it is closed, its end is waited for
    }
  }

  #started(signal?: AbortSignal): Promise<Process> {
    if (this.#isClosed) return Promise.reject(new FluxError('FLUX_CLOSED', 'the pipeline was closed; load it again'))
    return (this.#child ??= this.#start(signal).catch((error: unknown) => {
      this.#child = undefined
      throw error
    }))
  }

  async #start(signal: AbortSignal | undefined): Promise<Process> {
    const { signal: _, onProgress, onDownload, ...options } = this.#options
    const child: Process = await startChild(program, [])
    const kill = () => child.kill('SIGKILL')
    const unlisten = signal && onAbort(signal, kill)
    let loaded = false
    let silent = 0
    // counted by a timer, not by the clock, which goes on while the machine sleeps
    const watch = setInterval(() => {
      if (loaded && this.#calls.size === 0) silent = 0
      else if (++silent > MOST_SILENT_SECONDS) kill()
    }, 1000).unref()
    try {
      await new Promise<void>((resolve, reject) => {
        child.on('error', (cause) =>
          reject(new FluxError('FLUX_CRASHED', `the process that computes cannot be started: ${cause.message}`)),
        )
        child.onEnd((code, ended) => {
          clearInterval(watch)
          const error = new Crash(code, ended, child.said())
          reject(error)
          this.#child = undefined
          for (const { reject } of this.#calls.values()) reject(error)
        })
        child.on('message', (message) => {
          silent = 0
          const call = 'id' in message ? this.#calls.get(message.id) : undefined
          if (message.type === 'loaded') resolve()
          else if (message.type === 'refused') reject(receivedError(message.error))
          else if (message.type === 'loading') onProgress?.(message.progress)
          else if (message.type === 'downloading') onDownload?.(message.done, message.total)
          else if (message.type === 'warned') warnProcess(message.message)
          else if (call && message.type === 'begun') call.begun = true
          else if (message.type === 'event') call?.event(message.event)
          else if (message.type === 'value') call?.resolve(message.value)
          else if (message.type === 'error') call?.reject(receivedError(message.error))
        })
        child.post({ type: 'load', files: this.#files, options, folder: process.cwd() })
      })
      loaded = true
      if (this.#calls.size === 0) child.hold(false)
      return child
    } catch (error) {
      kill()
      signal?.throwIfAborted()
      throw error
    } finally {
      unlisten?.()
    }
  }
}

/** What usually ends a process in this way, by signal. */
const CAUSES: Record<string, string> = {
  SIGBUS: 'A file of the model, or of a LoRA, was cut short or changed while it was in use, or its disk failed',
  SIGKILL: 'The system does so when memory runs out: a smaller image or a smaller quantisation needs less',
  SIGILL: 'This processor lacks an instruction that it used',
}

/** The process ended by itself, in whatever way. */
class Crash extends FluxError {
  constructor(code: number | null, signal: string | undefined, said: string) {
    const line = said.trim().split('\n').at(-1)
    const cause = CAUSES[signal ?? '']
    const more = `${line ? `; it last wrote: ${line}` : ''}${cause ? `. ${cause}` : ''}`
    const how = signal ?? `status ${code}`
    super('FLUX_CRASHED', `the process that computes was ended (${how})${more}. The next image starts another one`)
  }
}
