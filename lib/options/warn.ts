/** Emits a warning that no caller handles: Node prints it, and `process.on('warning')` receives it. */
export function warnProcess(message: string): void {
  process.emitWarning(message, 'FluxWarning')
}
