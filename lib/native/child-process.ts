import { fork } from 'node:child_process'
import { createRequire } from 'node:module'
import type { Socket } from 'node:net'

/** What Node's child processes and Electron's utility processes have in common. */
export interface Child<Received, Sent = never> {
  on(event: 'message', listener: (message: Received) => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  /** sends a copy; a process that has ended gets nothing */
  post(message: Sent): void
  kill(signal?: NodeJS.Signals): unknown
  /** whether this process stays alive until the child has ended */
  hold(held: boolean): void
  /** called once, with the exit status or the signal that ended it; its last messages came before */
  onEnd(listener: (code: number | null, signal: string | undefined) => void): void
  /** the end of what it wrote to stderr */
  said(): string
}

interface UtilityProcess {
  on(event: string, listener: (...args: never[]) => void): unknown
  postMessage(message: unknown): void
  kill(): boolean
  stderr: NodeJS.ReadableStream | null
}

interface Electron {
  app: { whenReady(): Promise<void> }
  utilityProcess: { fork(program: string, args: string[], options: object): UtilityProcess }
}

const MOST_SAID = 2000

/** what ends the children of this process when it ends */
const endings = new Set<() => void>()
const endAll = () => endings.forEach((end) => end())

function endAtExit(end: () => void, onEnd: (listener: () => void) => void): void {
  if (endings.size === 0) process.on('exit', endAll)
  endings.add(end)
  onEnd(() => {
    endings.delete(end)
    if (endings.size === 0) process.off('exit', endAll)
  })
}

/**
 * Starts one of our programs in a child process, which gets the id of this process as its first argument. It ends with
 * this process, see `parent-process.ts`.
 */
export async function startChild<Received, Sent = never>(
  program: string,
  args: string[],
): Promise<Child<Received, Sent>> {
  let said = ''
  const listen = (stream: NodeJS.ReadableStream | null | undefined) =>
    stream?.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-MOST_SAID)))
  // Electron's main process may be unable to start as Node.js; its utility processes always can.
  if (process.versions.electron && (process as { type?: string }).type === 'browser') {
    const { app, utilityProcess } = createRequire(import.meta.url)('electron') as Electron
    await app.whenReady()
    const child = utilityProcess.fork(program, ['0', ...args], { stdio: 'pipe' })
    endAtExit(
      () => child.kill(),
      (listener) => child.on('exit', listener),
    )
    listen(child.stderr)
    return {
      on: (event: string, listener: never) => child.on(event, listener),
      post: (message) => child.postMessage(message),
      kill: () => child.kill(),
      hold: () => {},
      onEnd: (listener) => child.on('exit', (code: number) => listener(code, undefined)),
      said: () => said,
    }
  }
  // detached: Ctrl-C is for this process, which then ends the child. On Windows it would open a window.
  const detached = process.platform !== 'win32'
  const child = fork(program, [String(process.pid), ...args], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
    serialization: 'advanced',
    detached,
  })
  listen(child.stderr)
  endAtExit(
    () => child.kill('SIGKILL'),
    (listener) => child.on('close', listener),
  )
  return {
    on: (event: string, listener: never) => child.on(event, listener),
    post: (message) => {
      if (child.connected) child.send(message as object, () => {}) // an error means that it has ended, which onEnd reports
    },
    kill: (signal) => child.kill(signal),
    hold: (held) => {
      const all = [child, child.channel, child.stderr as Socket | null]
      for (const one of all) {
        if (held) one?.ref()
        else one?.unref()
      }
    },
    onEnd: (listener) => child.on('close', (code, signal) => listener(code, signal ?? undefined)),
    said: () => said,
  }
}
