// What the server sends and reads, by its names.

export interface Capabilities {
  version: string
  default_model: string
  samplers: string[]
  schedulers: string[]
  formats: Format[]
  loras: { name: string }[]
  limits: { count: number; steps: number; pixels: number; prompt: number }
}

export type Format = 'png' | 'jpeg' | 'webp' | 'avif'

export interface Model {
  id: string
  /** `guidance` is null for a model without it */
  defaults: { width: number; height: number; steps: number; guidance: number | null }
  reads: 'references' | 'control' | 'fill'
}

export interface JobRequest {
  model: string
  prompt: string
  negative_prompt?: string
  true_cfg?: number
  width?: number
  height?: number
  steps?: number
  guidance?: number
  seed: number
  count: number
  sampler?: string
  scheduler?: string
  loras?: Lora[]
  image?: string
  strength?: number
  mask?: string
  mask_blur?: number
  only_masked?: boolean
  reference_images?: string[]
  control_image?: string
  output_format: Format
  output_compression?: number
  previews: boolean
}

export interface Lora {
  name: string
  scale: number
}

export type JobState = 'waiting' | 'running' | 'completed' | 'failed' | 'cancelled'
export type Stage = 'text' | 'encode' | 'load' | 'denoise' | 'decode'

export interface Job {
  id: string
  state: JobState
  position: number
  count: number
}

export interface JobFailure {
  code: string
  message: string
}

export interface JobImage {
  index: number
  format: Format
  width: number
  height: number
  seed: number
  /** in A1111's format */
  parameters: string
}

export interface Preview {
  format: 'png' | 'jpeg'
  /** base64 */
  data: string
}

export type JobEvent =
  | { type: 'waiting'; data: { position: number } }
  | { type: 'started'; data: object }
  | { type: 'stage'; data: { stage: Stage } }
  | {
      type: 'step'
      data: { index: number; step: number; steps: number; seconds_left: number | null; preview?: Preview }
    }
  | { type: 'warning'; data: { message: string } }
  | { type: 'image'; data: JobImage & { truncated: string[] } }
  | { type: 'completed'; data: object }
  | { type: 'failed'; data: JobFailure }
  | { type: 'cancelled'; data: object }

/** How an image was made, as read from its file. */
export interface Parameters {
  writer: 'ggflux' | 'a1111' | 'comfyui' | null
  options: Record<string, unknown>
  loras: Lora[]
  unmapped: Record<string, string>
}
