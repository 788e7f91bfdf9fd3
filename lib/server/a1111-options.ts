import { HttpError } from './errors.js'

/** characters of the options that are kept, as JSON */
const MOST = 2 ** 16

/** What clients read first, by the names of A1111's `modules/shared_options.py`. */
const USUAL = { samples_format: 'png', sd_vae: 'Automatic', CLIP_stop_at_last_layers: 1 }

/**
 * A1111's options: clients read all of them, change the model, and send all of them back. Of these only
 * `sd_model_checkpoint` has an effect here, and the others are kept.
 */
export class A1111Options {
  #kept: Record<string, unknown> = {}
  #model: string

  /** @param model until a client chooses another */
  constructor(model: string) {
    this.#model = model
  }

  /** The model of requests that name none. */
  get model(): string {
    return this.#model
  }

  get all(): object {
    return { ...USUAL, ...this.#kept, sd_model_checkpoint: this.#model }
  }

  /**
   * @param model the name of `sd_model_checkpoint`, if it is set
   * @throws {HttpError} 413 for more than is kept
   */
  set(options: Record<string, unknown>, model: string | undefined): void {
    const { sd_model_checkpoint: _, ...others } = { ...this.#kept, ...options }
    if (JSON.stringify(others).length > MOST)
      throw new HttpError(413, 'too_large', `the options are longer than the ${MOST} characters that this server keeps`)
    this.#kept = others
    this.#model = model ?? this.#model
  }
}
