import type { FluxConfig } from '../flux/layout.js'
import { requireFits } from '../flux/attachments.js'
import { openNetworkFile, type NetworkFile, type NetworkSource } from '../network-file.js'
import type { ControlNetConfig } from './layout.js'
import { CONTROL_MODES, type ControlMode } from './modes.js'

/** What a ControlNet's file says about it. */
export interface ControlNetDescription {
  /**
   * The control image that it reads: 'latents' of an image; for inpainting 'latents-and-mask', the latents of the image
   * with a hole, and the mask; or an 'rgb' image
   */
  input: 'latents' | 'latents-and-mask' | 'rgb'
  /** the modes of a union ControlNet, by the rows of its embedding; empty if it has none */
  modes: readonly ControlMode[]
  /** whether it needs guidance */
  guidance: boolean
  config: ControlNetConfig
  /** bytes that its weights take in memory */
  weights: number
}

/**
 * Describes a ControlNet, based only on its file's header.
 *
 * @param transformer if given, whether the ControlNet fits it is checked as well
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED for another file, another family's ControlNet, or
 *   one that was made for another transformer; FLUX_BAD_OPTION
 */
export async function describeControlNet(
  source: NetworkSource<ControlNetConfig>,
  transformer?: FluxConfig,
): Promise<ControlNetDescription> {
  const file = await openNetworkFile('controlnet', source)
  if (transformer) requireFits(file, transformer)
  return descriptionOf(file)
}

export function descriptionOf({ config, bytes }: NetworkFile<ControlNetConfig>): ControlNetDescription {
  return {
    input: config.rgb ? 'rgb' : config.condChannels > config.inChannels ? 'latents-and-mask' : 'latents',
    modes: CONTROL_MODES.slice(0, config.modes),
    guidance: config.guidanceEmbed,
    config,
    weights: bytes,
  }
}
