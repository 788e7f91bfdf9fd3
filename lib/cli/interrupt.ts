const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const
const SIGNALS = Object.keys(EXIT_CODES) as (keyof typeof EXIT_CODES)[]

/** The reason of an abort that Ctrl-C or a request to terminate caused. */
export class Interrupted extends Error {
  /** 128 and the signal's number, as shells have it */
  readonly exitCode: number

  constructor(exitCode: number) {
    super('cancelled')
    this.exitCode = exitCode
  }
}

/** Runs `work`, which the first SIGINT or SIGTERM aborts with {@link Interrupted}; the second ends the process at once. */
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
