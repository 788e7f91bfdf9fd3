/** The stable codes of a {@link FluxError}; a program may branch on them. */
export type FluxErrorCode =
  | 'FLUX_BAD_FILE'
  | 'FLUX_BAD_OPTION'
  | 'FLUX_BAD_SHAPE'
  | 'FLUX_UNSUPPORTED'
  | 'FLUX_NOT_FOUND'
  | 'FLUX_DOWNLOAD'
  | 'FLUX_OUT_OF_MEMORY'
  | 'FLUX_DEVICE'
  | 'FLUX_BUSY'
  | 'FLUX_CLOSED'
  | 'FLUX_CRASHED'

/**
 * The only error that ggflux throws on its own behalf. The message names what was wrong (the field or file and its value) and what to do
 * about it; `code` is stable across versions. An aborted call rejects with `signal.reason` instead.
 */
export class FluxError extends Error {
  override readonly name = 'FluxError'
  readonly code: FluxErrorCode

  constructor(code: FluxErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
