/**
 * The program of a child process that tries the devices of one GPU module, see `device-trials.ts`. A driver that fails
 * may end this process, so every result is reported at once.
 *
 * Arguments: the id of the process that waits for it, or 0; the module's file, or '' to ask only for the drivers; then the
 * names of devices to leave out.
 */

import { nativeAddon, type NativeDevice, type NativeDrivers } from './addon.js'
import { parentProcess } from './parent-process.js'

/** What the process reports, in this order: `started`, `loaded`; for each device `trying`, `tried`. */
export type TrialMessage =
  | { type: 'started' }
  | { type: 'loaded'; failure: string; drivers: NativeDrivers; devices: NativeDevice[] }
  | { type: 'trying'; device: string }
  | { type: 'tried'; device: string; failure: string }

const [parent = '0', file, ...leftOut] = process.argv.slice(2)
const { post: report } = parentProcess<never, TrialMessage>(parent)

await report({ type: 'started' })
const addon = nativeAddon()
const before = new Set(addon.devices().map(({ name }) => name))
const drivers = addon.drivers()
const failure = file ? addon.loadModule(file) : ''
const devices = addon.devices().filter(({ name }) => !before.has(name))
await report({ type: 'loaded', failure, drivers, devices })
for (const { name: device } of devices) {
  if (leftOut.includes(device)) continue
  await report({ type: 'trying', device })
  await report({ type: 'tried', device, failure: tryDevice(device) })
}

function tryDevice(device: string): string {
  try {
    return addon.tryDevice(device)
  } catch (error) {
    return (error as Error).message
  }
}

process.disconnect?.() // ends normally, as the user's program does: some drivers fail only then
