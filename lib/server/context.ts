import { FluxError } from '../errors.js'
import { readImageSize } from '../images/image-size.js'
import type { ImageQueue, ModelState } from '../queue/queue.js'
import { HttpError } from './errors.js'
import type { Settings } from './server-options.js'

/** names of models that clients of OpenAI's service ask for */
const OPENAI_MODELS = /^(gpt-image-|dall-e-|chatgpt-image-)/

/** What all routes share. */
export class ServerContext {
  readonly queue: ImageQueue
  readonly settings: Settings
  /** the model for requests that name none */
  readonly defaultModel: string
  readonly #sizes = new WeakMap<Uint8Array, ReturnType<typeof readImageSize>>()

  constructor(queue: ImageQueue, settings: Settings, defaultModel: string) {
    this.queue = queue
    this.settings = settings
    this.defaultModel = defaultModel
  }

  /**
   * Finds the model of a request. Names of OpenAI's own models mean the default one.
   *
   * @throws {HttpError} 404 with the names that there are
   */
  async model(name: string | undefined): Promise<{ model: ModelState; note?: string }> {
    const { aliases } = this.settings
    const wanted = name && Object.hasOwn(aliases, name) ? aliases[name]! : name || this.defaultModel
    const models = await this.queue.models()
    const model = models.find((one) => one.name === wanted)
    if (model) return { model }
    // workers may have come after the server, with other models
    const [first] = this.settings.model === undefined ? models : []
    const usual = models.find((one) => one.name === this.defaultModel) ?? first
    if (usual && !name) return { model: usual }
    if (usual && OPENAI_MODELS.test(wanted)) return { model: usual, note: `${wanted} is drawn by ${usual.name}` }
    const names = [...models.map((one) => one.name), ...Object.keys(aliases)].slice(0, 20).join(', ')
    throw new HttpError(
      404,
      'model_not_found',
      `there is no model '${wanted.slice(0, 100)}'; ${names ? `there are ${names}` : 'no worker offers any now'}`,
      'model',
    )
  }

  /**
   * The bytes of an image file in base64 or a data URI.
   *
   * @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_FILE, FLUX_UNSUPPORTED for more pixels than the server allows
   */
  async image(name: string, value: string | Buffer): Promise<Buffer> {
    const bytes = typeof value === 'string' ? decodeImage(name, value) : value
    await this.imageSize(name, bytes)
    return bytes
  }

  /** The size of an image file, which is read once. */
  imageSize(name: string, bytes: Uint8Array): ReturnType<typeof readImageSize> {
    const known = this.#sizes.get(bytes)
    if (known) return known
    const size = readImageSize(name, bytes, this.settings.limits.inputPixels)
    this.#sizes.set(bytes, size)
    return size
  }
}

function decodeImage(name: string, text: string): Buffer {
  if (/^\s*(https?|file|ftp):/i.test(text))
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `${name} is an address, and this server fetches none: send the file itself, as base64 or a data URI`,
    )
  const base64 = text.replace(/^data:[^,]{0,200};base64,/, '')
  // Buffer.from would skip what is no base64
  if (base64 === '' || !/^[\w+/\-\s]*={0,2}\s*$/.test(base64))
    throw new FluxError('FLUX_BAD_OPTION', `${name} is no base64: send an image file as base64 or a data URI`)
  return Buffer.from(base64, 'base64')
}
