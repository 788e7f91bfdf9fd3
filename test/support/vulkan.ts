import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'
const DRIVERS = '/usr/share/vulkan/icd.d'

/**
 * The environment of a process with the Vulkan module and one driver. The module is not put next to the addon that the
 * other tests use, as it would be tried in each of them.
 *
 * @param driver 'swiftshader' cannot be used by ggml, which makes it a test of refusal; 'lavapipe' computes on the CPU
 * @param folder for the cache of trials
 */
export function vulkanEnvironment(
  driver: 'swiftshader' | 'lavapipe',
  folder: string,
): { env?: Record<string, string>; reason?: string } {
  const lavapipe = existsSync(DRIVERS) && readdirSync(DRIVERS).find((name) => /^lvp_icd.*\.json$/.test(name))
  const file = driver === 'swiftshader' ? SWIFTSHADER : lavapipe ? join(DRIVERS, lavapipe) : ''
  if (!existsSync(file)) return { reason: `the Vulkan driver ${driver} is not installed` }
  const addon = join(folder, 'addon')
  mkdirSync(addon, { recursive: true })
  const compiled = join(root, 'build', 'Release')
  for (const name of readdirSync(compiled).filter((name) => /\.(node|so)$/.test(name))) {
    rmSync(join(addon, name), { force: true })
    symlinkSync(join(compiled, name), join(addon, name))
  }
  const module = join(root, 'build', 'vulkan-for-tests')
  if (!existsSync(join(module, 'libggml-vulkan.so'))) {
    const script = join(root, 'scripts', 'gpu-module.mjs')
    const taken = spawnSync(process.execPath, [script, 'vulkan', '--output', module], { encoding: 'utf8' })
    if (taken.status !== 0) return { reason: taken.stderr.trim() }
  }
  rmSync(join(addon, 'vulkan'), { force: true })
  symlinkSync(module, join(addon, 'vulkan'))
  return {
    env: {
      GGFLUX_ADDON: addon,
      XDG_CACHE_HOME: join(folder, 'cache'),
      // Mesa compiles each shader for up to a minute; without optimisation a third less
      MESA_SHADER_CACHE_DIR: join(root, 'build', 'mesa-shaders'),
      GALLIVM_PERF: 'nopt',
      VK_DRIVER_FILES: file,
      GGML_VK_VISIBLE_DEVICES: '0', // ggml takes a device in software only if it is asked to
    },
  }
}
