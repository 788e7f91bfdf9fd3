/// <reference lib="esnext.disposable" preserve="true" />
/// <reference types="node" preserve="true" />
/**
 * The networks of FLUX.1 as classes, for users with their own sampler:
 * `import { FluxTransformer } from 'ggflux/nn'`. Each runs outside the JavaScript thread, one call at a time. A second
 * call during the first is refused with FLUX_BUSY.
 */
export { FluxTransformer, type PredictInput } from './networks/flux/transformer.js'
export type { ControlInput, FluxAttachment, ImagePromptInput } from './networks/flux/attachments.js'
export { describeControlNet, type ControlNetDescription } from './networks/controlnet/describe.js'
export { CONTROL_MODES, type ControlMode } from './networks/controlnet/modes.js'
export { IpAdapter } from './networks/ip-adapter/ip-adapter.js'
export { T5Encoder } from './networks/t5/encoder.js'
export { ClipTextEncoder } from './networks/clip/encoder.js'
export { Autoencoder } from './networks/autoencoder/autoencoder.js'
export { SiglipVisionEncoder } from './networks/siglip/encoder.js'
export { ClipVisionEncoder } from './networks/clip-vision/encoder.js'
export { ReduxProjector } from './networks/redux/projector.js'
export { appendRedux, type ReduxImage } from './networks/redux/append.js'
export { clipPixels, siglipPixels } from './networks/vision-pixels.js'
export { TinyDecoder } from './networks/taesd/tiny-decoder.js'
export { Upscaler, type UpscaleOptions } from './networks/rrdb/upscaler.js'
export type { NetworkOptions, ProfileRow } from './networks/network.js'
export type { RgbImage } from './images/rgb-image.js'
export type { LoraOptions } from './networks/lora/assignment.js'
export type { NetworkSource } from './networks/network-file.js'
export type { TextBias } from './networks/flux/text-bias.js'
export type { FluxConfig } from './networks/flux/layout.js'
export type { ControlNetConfig } from './networks/controlnet/layout.js'
export type { IpAdapterConfig } from './networks/ip-adapter/layout.js'
export type { T5Config } from './networks/t5/layout.js'
export type { ClipConfig } from './networks/clip/layout.js'
export type { SiglipConfig } from './networks/siglip/layout.js'
export type { ClipVisionConfig } from './networks/clip-vision/layout.js'
export type { ReduxConfig } from './networks/redux/layout.js'
export type { AutoencoderConfig } from './networks/autoencoder/layout.js'
export type { TinyDecoderConfig } from './networks/taesd/layout.js'
export type { RrdbConfig } from './networks/rrdb/layout.js'
