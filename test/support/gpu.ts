import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vulkanEnvironment } from './vulkan.js'

/**
 * The GPU that the tests in `test/gpu` run on: GGFLUX_TEST_BACKEND, or Mesa's Vulkan device for CPUs. Import this before
 * anything that loads the addon.
 */
export const gpu = process.env.GGFLUX_TEST_BACKEND ?? lavapipe()

/** CUDA computes in F32 if it is asked to; Vulkan and Metal come close by adding up three products. */
export const TOLERANCE = { auto: 3e-3, f32: 1e-4 }

function lavapipe(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ggflux-lavapipe-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const { env, reason } = vulkanEnvironment('lavapipe', folder)
  if (!env)
    throw new Error(
      `${reason}. What to do: apt install mesa-vulkan-drivers (25 or newer), or name a GPU in GGFLUX_TEST_BACKEND.`,
    )
  Object.assign(process.env, env)
  return 'Vulkan0'
}
