import { FluxError } from '../errors.js'
import { freeMemory } from './free-memory.js'
import { nativeAddon, type NativeDevice } from './addon.js'
import { parseRpcAddress } from './rpc-client.js'

export type Device = NativeDevice

/** The devices that ggml can use on this machine, found at run time. The CPU is always included. */
export function devices(): Device[] {
  return nativeAddon()
    .devices()
    .map((device) => (device.kind === 'cpu' ? { ...device, memoryFree: freeMemory() } : device))
}

/**
 * Returns the name of the device that `backend` means, or a server's address unchanged.
 *
 * @throws {FluxError} FLUX_DEVICE if there is no such device, with a list of the available ones; FLUX_BAD_OPTION for an
 *   invalid address
 */
export function chooseDevice(backend: string = 'auto'): string {
  if (parseRpcAddress(String(backend))) return backend
  const all = devices()
  const gpus = all.filter(({ kind }) => kind === 'gpu').sort((a, b) => b.memoryFree - a.memoryFree)
  const cpu = all.find(({ kind }) => kind === 'cpu')
  const wanted = String(backend).toLowerCase()
  const found =
    wanted === 'auto'
      ? (gpus[0] ?? cpu)
      : wanted === 'gpu'
        ? gpus[0]
        : wanted === 'cpu'
          ? cpu
          : all.find(({ name }) => name.toLowerCase() === wanted)
  if (found) return found.name
  const names = all.map(({ name }) => name).join(', ')
  throw new FluxError(
    'FLUX_DEVICE',
    `there is no device for the backend '${backend}'; 'auto', 'cpu', 'gpu', 'rpc://host:port' or one of these is possible: ${names}`,
  )
}
