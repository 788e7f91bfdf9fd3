import type { ImageFormat } from '../images/encode.js'
import type { LatentPreview } from '../families/latent-preview.js'

/**
 * What the pipeline is doing; an image passes through the stages in this order. `encode`: images are encoded. With
 * `hires`, `denoise` comes twice, and `decode` and `encode` may come between.
 */
export type Stage = 'text' | 'encode' | 'load' | 'denoise' | 'decode'

export interface StageEvent {
  type: 'stage'
  stage: Stage
}

export interface StepEvent {
  type: 'step'
  /** of the image, from 0; above 0 only with the option `count` */
  index: number
  /** from 1 to `steps`; with `hires` the steps of both passes have one count */
  step: number
  steps: number
  /** noise level before the step, and after it */
  sigma: number
  sigmaNext: number
  /** milliseconds that the step took */
  ms: number
  /** the model was not evaluated: its velocity was extrapolated from earlier steps; only with the option `stepCache` */
  reused: boolean
  /** the image as the model currently predicts it, RGB bytes; with the option `preview` */
  preview?: LatentPreview
}

export interface ImageEvent {
  type: 'image'
  /** from 0; above 0 only with the option `count` */
  index: number
  /** the bytes of the file, or RGB bytes with the format 'raw' */
  image: Buffer
  format: ImageFormat
  width: number
  height: number
  seed: number
  /** the generation parameters in A1111's format; the file contains them as well */
  parameters: string
  /** names of the text encoders that received only the start of the prompt */
  truncated: string[]
  /** side of the decoded tiles in pixels, if memory did not suffice to decode the whole image at once */
  tile?: number
  /** milliseconds by stage; loading counts in the stage where it happens */
  timings: Record<Stage, number>
}

/** Something is missing or ignored: the image is generated, but perhaps not as intended. */
export interface WarningEvent {
  type: 'warning'
  message: string
}

export type GenerateEvent = StageEvent | StepEvent | WarningEvent | ImageEvent
