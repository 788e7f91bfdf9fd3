import { formatBytes, formatSeconds } from './format.js'
import { interruptible } from './interrupt.js'
import { drawBar, liveLine } from './live-line.js'

/**
 * Writes model files and shows a progress line; Ctrl-C cancels the work.
 *
 * @param before the text of the line before there is progress to show
 */
export async function withProgress<T>(
  quiet: true | undefined,
  work: (signal: AbortSignal, onProgress: (done: number, total: number) => void) => Promise<T>,
  before?: string,
): Promise<{ result: T; seconds: number }> {
  const began = performance.now()
  let [done, total] = [0, 0]
  const line = quiet ? undefined : await liveLine(() => progressText(done, total, performance.now() - began, before))
  try {
    const result = await interruptible((signal) => work(signal, (...progress) => ([done, total] = progress)))
    return { result, seconds: (performance.now() - began) / 1000 }
  } finally {
    line?.stop()
  }
}

/** `██████░░  3.4 GB of 6.8 GB  1.2 GB/s, 2.8 s left` */
export function progressText(done: number, total: number, ms: number, before = 'preparing the weights'): string {
  if (done === 0) return before
  const perSecond = done / (ms / 1000)
  const speed = `${formatBytes(perSecond)}/s, ${formatSeconds((total - done) / perSecond)} left`
  return `${drawBar(done / total)}  ${formatBytes(done)} of ${formatBytes(total)}  ${speed}`
}
