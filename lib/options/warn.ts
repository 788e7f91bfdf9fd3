/** Where a warning goes that nobody takes: Node prints it, and `process.on('warning')` hears of it. */
export function warnProcess(message: string): void {
  process.emitWarning(message, 'FluxWarning')
}
