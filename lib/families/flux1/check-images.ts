import { FluxError } from '../../errors.js'
import { descriptionOf } from '../../networks/controlnet/describe.js'
import { requireFits } from '../../networks/flux/attachments.js'
import { openNetworkFile, type NetworkFile } from '../../networks/network-file.js'
import type { NetworkConfigs, NetworkKind } from '../../networks/registry.js'
import { badOption } from '../../options/checks.js'
import type { NetworksOf } from '../family.js'
import type { ImageInputs } from '../image-inputs.js'
import type { Flux1Components } from './components.js'

/**
 * Opens ControlNets and IP-Adapters, each file once, and finds what would fail later: components that are missing for the
 * images of a request, ControlNets and IP-Adapters of another model, modes that a ControlNet does not have.
 *
 * @returns the files of the ControlNets, then of the IP-Adapters
 * @throws {FluxError}
 */
export async function checkImages(
  { controlNets = [], ipAdapters = [], redux = [], mask }: ImageInputs,
  networks: Partial<NetworksOf<Flux1Components>>,
): Promise<NetworkFile<object>[]> {
  const lacks = (option: string, component: string, what: string): FluxError =>
    new FluxError(
      'FLUX_BAD_OPTION',
      `${option} is given, but the model has no ${component}: give the file of ${what} to load`,
    )
  if (redux.length > 0 && !networks.siglip) throw lacks('redux', 'siglip', "SigLIP's vision tower")
  if (redux.length > 0 && !networks.redux) throw lacks('redux', 'redux', "Redux's projector")
  if (ipAdapters.length > 0 && !networks.clipVision) throw lacks('ipAdapters', 'clipVision', "CLIP's vision tower")
  const { config } = networks.transformer!
  const attached: NetworkFile<object>[] = []
  const controlNetAt = openedOnce('controlnet')
  const ipAdapterAt = openedOnce('ip-adapter')
  for (const [i, { path, mode }] of controlNets.entries()) {
    const file = await controlNetAt(path)
    requireFits(file, config)
    attached.push(file)
    const { input, modes } = descriptionOf(file)
    const name = `controlNets[${i}]`
    if (input === 'latents-and-mask' && !mask)
      throw new FluxError('FLUX_BAD_OPTION', `${name}: this ControlNet repaints; give image and mask as well`)
    if (modes.length === 0 && mode !== undefined)
      throw badOption(`${name}.mode`, mode, 'nothing, because this ControlNet has one mode')
    const known = (modes as readonly string[]).includes(mode as string) || mode === 'auto'
    const row = Number.isInteger(mode) && Number(mode) >= 0 && Number(mode) < file.config.modes
    if (modes.length > 0 && !known && !row) throw badOption(`${name}.mode`, mode, `one of ${modes.join(', ')}, auto`)
  }
  for (const { path } of ipAdapters) {
    const file = await ipAdapterAt(path)
    requireFits(file, config)
    attached.push(file)
  }
  return attached
}

/** Opens a file the first time that it is requested. */
function openedOnce<K extends NetworkKind>(kind: K): (path: string) => Promise<NetworkFile<NetworkConfigs[K]>> {
  const opened = new Map<string, Promise<NetworkFile<NetworkConfigs[K]>>>()
  return (path) => {
    const file = opened.get(path) ?? openNetworkFile(kind, path)
    opened.set(path, file)
    return file
  }
}
