import type { ImageFormat } from '../images/encode.js'
import type { LatentPreview } from '../images/latent-preview.js'

/** What the pipeline is doing; a picture passes through them in this order. */
export type Stage = 'text' | 'load' | 'denoise' | 'decode'

export interface StageEvent {
  type: 'stage'
  stage: Stage
}

export interface StepEvent {
  type: 'step'
  /** from 1 to `steps` */
  step: number
  steps: number
  /** noise level before the step, and after it */
  sigma: number
  sigmaNext: number
  /** milliseconds that the step took */
  ms: number
  /** the model was not asked: its velocity was continued from the steps before; only with the option `stepCache` */
  reused: boolean
  /** the picture as the model sees it now, RGB bytes; with the option `preview` */
  preview?: LatentPreview
}

export interface ImageEvent {
  type: 'image'
  /** the file's bytes, or RGB bytes with the format 'raw' */
  image: Buffer
  format: ImageFormat
  width: number
  height: number
  seed: number
  /** how it was made, in A1111's form; it is in the file, too */
  parameters: string
  /** names of the text encoders that saw only the beginning of the prompt */
  truncated: string[]
  /** side in pixels of the tiles that were decoded, where memory did not suffice for the whole picture at once */
  tile?: number
  /** milliseconds by stage; loading is counted where it happens */
  timings: Record<Stage, number>
}

/** Something that the picture does without: it is made, but perhaps not as meant. */
export interface WarningEvent {
  type: 'warning'
  message: string
}

export type GenerateEvent = StageEvent | StepEvent | WarningEvent | ImageEvent
