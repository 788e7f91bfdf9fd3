import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

// Times that do not depend on what else the machine does. Linux counts for each thread how long it was ready to run and waited for a processor; elsewhere
// these are times on the clock.

/** Starts a clock of the processor time that this process takes. What it returns reads the milliseconds. */
export function processorClock(): () => number {
  const start = process.cpuUsage()
  return () => {
    const { user, system } = process.cpuUsage(start)
    return (user + system) / 1000
  }
}

export function processorTime(work: () => unknown): number {
  const read = processorClock()
  work()
  return read()
}

/** For how many milliseconds each thread has waited for a processor. */
function waits(threads = allThreads()): Map<string, number> {
  const all = new Map<string, number>()
  for (const thread of threads) {
    try {
      const [, nanoseconds] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')
      all.set(thread, Number(nanoseconds) / 1e6)
    } catch {} // it has ended, or the system does not tell
  }
  return all
}

function allThreads(): string[] {
  try {
    return readdirSync('/proc/self/task')
  } catch {
    return []
  }
}

/** A clock that stands still while one of the threads waits for a processor. */
function undisturbed(threads?: string[]): () => number {
  const [begin, before] = [performance.now(), waits(threads)]
  return () => {
    let elapsed = performance.now() - begin
    for (const [thread, now] of waits(threads)) elapsed -= now - (before.get(thread) ?? 0)
    return Math.max(0, elapsed)
  }
}

/**
 * Starts a clock that stands still while this process waits for a processor; what it returns reads the milliseconds. Where several threads wait at once it
 * would run backward, so what they calculate is the least that it shows.
 */
export function stopwatch(): () => number {
  const [elapsed, calculated] = [undisturbed(), processorClock()]
  return () => Math.max(elapsed(), calculated() / availableParallelism())
}

/** The longest time in which the event loop of the main thread did not turn while `work` went on, in milliseconds. */
export async function longestStandstill(work: () => Promise<unknown>): Promise<{ longest: number; turns: number }> {
  let [longest, turns] = [0, 0]
  const main = [String(process.pid)]
  let sinceLast = undisturbed(main)
  const turn = () => {
    longest = Math.max(longest, sinceLast())
    turns++
    sinceLast = undisturbed(main)
  }
  const timer = setInterval(turn, 1)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  turn()
  return { longest, turns }
}
