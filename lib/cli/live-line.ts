/** The line at the bottom of a terminal that tells how far the work is. */
export interface LiveLine {
  /** takes the line away */
  stop(): void
}

const BAR_WIDTH = 24

/** Writes what `text` returns to stderr over and over, ten times a second; nothing where stderr is no terminal. */
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

/** @param share done, 0 to 1 */
export function drawBar(share: number): string {
  const full = Math.round(Math.min(Math.max(share, 0), 1) * BAR_WIDTH)
  return '█'.repeat(full) + '░'.repeat(BAR_WIDTH - full)
}
