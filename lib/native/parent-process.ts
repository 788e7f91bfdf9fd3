import { Worker } from 'node:worker_threads'

/** Electron's utility processes, which take the place of Node's child processes there, have another port. */
interface UtilityProcess {
  parentPort?: {
    postMessage(message: unknown): void
    on(event: 'message', listener: (event: { data: unknown }) => void): unknown
  }
}

/** In a child process, the way to the process that started it with `startChild`. */
export interface ParentProcess<Received, Sent> {
  /** resolves when the message is sent */
  post(message: Sent): Promise<unknown>
  onMessage(listener: (message: Received) => void): void
}

/**
 * Connects with the parent, and ends this process with it, even while this thread is blocked.
 *
 * @param parent the id of the parent process, or '0' where the system ends the child
 */
export function parentProcess<Received, Sent>(parent: string): ParentProcess<Received, Sent> {
  // A driver can block this thread for ever. Another one ends the process when nobody waits for it any more.
  const watch = "setInterval(() => process.ppid !== workerData && process.kill(process.pid, 'SIGKILL'), 500)"
  if (parent !== '0')
    new Worker(`const { workerData } = require('node:worker_threads'); ${watch}`, {
      eval: true,
      workerData: Number(parent),
    }).unref()
  const { parentPort } = process as unknown as UtilityProcess
  if (parentPort)
    return {
      post: async (message) => parentPort.postMessage(message),
      onMessage: (listener) => void parentPort.on('message', ({ data }) => listener(data as Received)),
    }
  return {
    post: (message) => new Promise((sent) => process.send!(message, sent)),
    onMessage: (listener) => void process.on('message', listener),
  }
}
