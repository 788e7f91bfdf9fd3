import { parentPort } from 'node:worker_threads'
import { encodePng, type PngInput } from './png.js'

/** What the thread answers to the job of that number. */
export type PngAnswer = { id: number } & ({ png: Uint8Array<ArrayBuffer> } | { error: unknown })

parentPort!.on('message', ({ id, input }: { id: number, input: PngInput }) => {
  const answer = (message: PngAnswer, transfer: ArrayBuffer[] = []) => parentPort!.postMessage(message, transfer)
  try {
    const png = encodePng(input)
    answer({ id, png }, [png.buffer])
  } catch (error) {
    answer({ id, error })
  }
})
