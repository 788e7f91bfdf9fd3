import { CommanderError } from 'commander'
import { FluxError } from '../errors.js'
import { Interrupted } from './interrupt.js'

export function printWarning(message: string): void {
  process.stderr.write(`ggflux: ${message}\n`)
}

/** Prints the error on stderr and returns the exit code: 2 for wrong usage, 130 and 143 after a signal, otherwise 1. */
export function reportFailure(error: unknown): number {
  // commander has already printed the message; the code is 0 after --help and --version
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof Interrupted) {
    process.stderr.write('cancelled\n')
    return error.exitCode
  }
  process.stderr.write(`ggflux: ${error instanceof Error ? error.message : String(error)}\n`)
  if (process.env.GGFLUX_DEBUG) console.error(error)
  return error instanceof FluxError && error.code === 'FLUX_BAD_OPTION' ? 2 : 1
}
