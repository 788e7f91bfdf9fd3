import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../support/temporary.js'

// The published Vulkan module in our addon, on Mesa's Vulkan for CPUs. It only lists the device: computing with it takes minutes.
const drivers = '/usr/share/vulkan/icd.d'
const driver = existsSync(drivers) && readdirSync(drivers).find((name) => /^lvp_icd.*\.json$/.test(name))
const script = new URL('../../scripts/gpu-module.mjs', import.meta.url)
const addon = new URL('../../dist/native/addon.js', import.meta.url).href
const folder = temporaryFolder()

test.skipIf(!driver)('the published Vulkan module binds our base library and lists its device', ({ skip }) => {
  const output = path.join(folder, 'vulkan')
  const taken = spawnSync(process.execPath, [fileURLToPath(script), 'vulkan', '--output', output], { encoding: 'utf8' })
  if (/could not fetch/.test(taken.stderr)) skip(taken.stderr)
  expect(taken.stderr).toBe('')

  const program = `
    import { readFileSync } from 'node:fs'
    const { nativeAddon } = await import(${JSON.stringify(addon)})
    const loaded = nativeAddon().loadModule(${JSON.stringify(path.join(output, 'libggml-vulkan.so'))})
    const maps = [...new Set(readFileSync('/proc/self/maps', 'utf8').match(/[^/]*ggml[^/]*\\.so$/gm))]
    console.log(JSON.stringify({ loaded, devices: nativeAddon().devices(), maps }))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    encoding: 'utf8',
    env: { ...process.env, VK_DRIVER_FILES: path.join(drivers, driver as string), GGML_VK_VISIBLE_DEVICES: '0' },
  })
  expect(stderr).toBe('')
  const { loaded, devices, maps } = JSON.parse(stdout) as {
    loaded: boolean
    devices: { name: string; backend: string }[]
    maps: string[]
  }
  expect(loaded).toBe(true)
  expect(devices).toContainEqual(expect.objectContaining({ name: 'Vulkan0', backend: 'Vulkan' }))
  expect(maps).toContain('libggflux-ggml-base.so')
  expect(maps).not.toContain('libggml-base.so')
})
