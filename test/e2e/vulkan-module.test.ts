import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../support/temporary.js'
import { vulkanEnvironment } from '../support/vulkan.js'

// The published Vulkan module in our addon, on Mesa's Vulkan for CPUs. It only lists the device: computing with it takes minutes.
const folder = temporaryFolder()
const { env, reason } = vulkanEnvironment('lavapipe', folder)
if (reason) console.log(`skipped: the published Vulkan module (${reason})`)
const dist = new URL('../../dist/native/', import.meta.url).href

test.skipIf(reason)('the published Vulkan module binds our base library and lists its device', () => {
  const program = `
    import { readFileSync } from 'node:fs'
    const { nativeAddon } = await import('${dist}addon.js')
    const { findGpuModules } = await import('${dist}locate.js')
    const [module] = findGpuModules()
    const refused = nativeAddon().loadModule(module.file)
    const maps = [...new Set(readFileSync('/proc/self/maps', 'utf8').match(/[^/]*ggml[^/]*\\.so$/gm))]
    console.log(JSON.stringify({ module, refused, devices: nativeAddon().devices(), maps }))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  expect(stderr).toBe('')
  const found = JSON.parse(stdout) as { module: object; refused: string; devices: object[]; maps: string[] }
  expect(found).toMatchObject({
    module: { backend: 'vulkan', file: path.join(folder, 'addon', 'vulkan', 'libggml-vulkan.so') },
    refused: '',
  })
  expect(found.devices).toContainEqual(expect.objectContaining({ name: 'Vulkan0', backend: 'Vulkan' }))
  expect(found.maps).toContain('libggflux-ggml-base.so')
  expect(found.maps).not.toContain('libggml-base.so')
})
