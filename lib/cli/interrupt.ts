const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const
const SIGNALS = Object.keys(EXIT_CODES) as (keyof typeof EXIT_CODES)[]

/** The reason of an abort caused by Ctrl-C or by a request to terminate. */
export class Interrupted extends Error {
  /** 128 plus the signal's number, as in shells */
  readonly exitCode: number

  constructor(exitCode: number) {
    super('cancelled')
    this.exitCode = exitCode
  }
}

/**
 * Runs `work`. The first SIGINT or SIGTERM aborts it with {@link Interrupted}; the second one ends the process at once.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const interrupt = (name: keyof typeof EXIT_CODES): void => {
    if (controller.signal.aborted) process.exit(EXIT_CODES[name])
    controller.abort(new Interrupted(EXIT_CODES[name]))
  }
  for (const name of SIGNALS) process.on(name, interrupt)
  try {
    return await work(controller.signal)
  } finally {
    for (const name of SIGNALS) process.off(name, interrupt)
  }
}
