/** RGB bytes [height, width, 3]. */
export interface Pixels {
  data: Uint8Array
  width: number
  height: number
}

/** The images that a model's input is made from, in pixels. Those that are read at the drawing's size have it already. */
export interface ImageInputs {
  /** the image to repaint and its mask [height, width], 255 where it is drawn anew; for models that repaint (Fill) */
  fill?: { image: Pixels; mask: Uint8Array }
  /** an edge or depth image of the drawing's size, for models that follow one (Canny, Depth) */
  control?: Pixels
  /** images that the prompt refers to, for models that edit (Kontext); sides are multiples of 16 */
  references?: Pixels[]
  /** how the references are placed @default 'offset' */
  placement?: ReferencePlacement
  /** images of the drawing's size for ControlNets */
  controlNets?: ControlNetInput[]
  /** [height, width], 255 where the image is drawn anew; for ControlNets that repaint */
  mask?: Uint8Array
  /** images of any size that guide next to the text */
  redux?: ReduxInput[]
  /** images of any size for IP-Adapters */
  ipAdapters?: IpAdapterInput[]
}

export interface ControlNetInput {
  /** the ControlNet's file */
  path: string
  image: Pixels
  /** for union ControlNets */
  mode?: string | number
  scale: number
  /** shares of the steps between which it acts */
  start: number
  end: number
}

export interface ReduxInput {
  image: Pixels
  strength: number
  strengthType: 'multiply' | 'attn_bias'
}

export interface IpAdapterInput {
  /** the adapter's file */
  path: string
  image: Pixels
  scale: number
}

/** What a family encodes images with. */
export interface ImageEncoders {
  vae: EncodeImage
  /** evaluates an optional component, such as a vision tower, for each item, loaded once */
  run<Item, T>(
    name: string,
    items: readonly Item[],
    work: (network: never, item: Item, options: { signal: AbortSignal }) => Promise<T>,
  ): Promise<T[]>
}

/**
 * How reference images are placed in the space of positions. 'offset': all next to or below each other, at index 1.
 * 'index': each at its own index, all at the origin. 'uxo': all at index 0, each below and to the right of all before
 * it, the image itself included. Source: Comfy-Org/ComfyUI `comfy/ldm/flux/model.py` (`_forward`).
 */
export type ReferencePlacement = 'offset' | 'index' | 'uxo'

/**
 * Encodes an image with the model's autoencoder.
 *
 * @param image [3, height, width] in -1 to 1
 * @returns the latent [channels, height / reduction, width / reduction], as the sampler returns it
 */
export type EncodeImage = (image: Float32Array, height: number, width: number) => Promise<Float32Array>

/** Converts RGB bytes [height, width, 3] to planes [3, height, width] from -1 to 1: byte / 127.5 - 1. */
export function toPlanes({ data, width, height }: Pixels): Float32Array {
  const count = width * height
  const planes = new Float32Array(3 * count)
  for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) planes[c * count + i] = data[3 * i + c]! / 127.5 - 1
  return planes
}

/** Whether a ControlNet acts in a step: if all of it is between the shares `start` and `end` of the steps, as in diffusers. */
export function actsIn(step: number, steps: number, { start, end }: { start: number; end: number }): boolean {
  return step / steps >= start && (step + 1) / steps <= end
}
