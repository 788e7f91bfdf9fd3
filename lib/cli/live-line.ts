/** The line at the bottom of a terminal that shows the progress. */
export interface LiveLine {
  /** removes the line */
  stop(): void
}

const BAR_WIDTH = 24

/** Writes the result of `text` to stderr ten times a second. Writes nothing if stderr is not a terminal. */
export async function liveLine(text: () => string): Promise<LiveLine> {
  if (!process.stderr.isTTY) return { stop() {} }
  const { SingleBar } = (await import('cli-progress')).default
  const bar = new SingleBar({ format: text, stream: process.stderr, clearOnComplete: true, linewrap: true, fps: 10 })
  const stop = () => bar.stop()
  bar.start(1, 0)
  process.once('exit', stop)
  return {
    stop() {
      process.off('exit', stop)
      stop()
    },
  }
}

/** @param share the part that is done, 0 to 1 */
export function drawBar(share: number): string {
  const full = Math.round(Math.min(Math.max(share, 0), 1) * BAR_WIDTH)
  return '█'.repeat(full) + '░'.repeat(BAR_WIDTH - full)
}

/** Explains why nothing else happens for some seconds. */
export function printTrial(backend: 'cuda' | 'metal' | 'vulkan'): void {
  const name = { cuda: 'CUDA', metal: 'Metal', vulkan: 'Vulkan' }[backend]
  process.stderr.write(`trying the ${name} driver, once for each version of it\n`)
}
