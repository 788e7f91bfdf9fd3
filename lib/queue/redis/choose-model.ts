/** The job of a model whose turn it is. */
export interface Head {
  model: string
  /** the worker that had it died */
  isBegun: boolean
  priority: number
  /** milliseconds */
  waited: number
}

/** What a worker has done since it last took a model that it had to load. */
export interface Turn {
  /** milliseconds */
  lasts: number
  /** number of jobs */
  jobs: number
}

/** jobs in a row, and milliseconds, after which a job of a model that is not loaded comes first */
const [MOST_JOBS, MOST_MS] = [8, 30_000]

/**
 * Chooses the model whose job a worker takes next: by priority, then one in memory, then the one that has waited longest.
 * Models that are not in memory come first when it is their turn. This turn comes no more often under load, when every
 * job waits for long: loading takes longer than drawing.
 */
export function chooseModel(heads: readonly Head[], loaded: readonly string[], turn: Turn): Head | undefined {
  const begun = heads.filter(({ isBegun }) => isBegun)
  const urgent = begun.length > 0 ? begun : heads
  const highest = Math.max(...urgent.map(({ priority }) => priority))
  const first = urgent.filter(({ priority }) => priority === highest)
  const [own, others] = [
    first.filter(({ model }) => loaded.includes(model)),
    first.filter(({ model }) => !loaded.includes(model)),
  ]
  const isTheirs = ({ waited }: Head) => turn.jobs >= MOST_JOBS || Math.min(waited, turn.lasts) > MOST_MS
  const overdue = others.filter(isTheirs)
  const candidates = overdue.length > 0 ? overdue : own.length > 0 ? own : others
  return candidates.reduce<Head | undefined>(
    (best, head) => (best && best.waited >= head.waited ? best : head),
    undefined,
  )
}
