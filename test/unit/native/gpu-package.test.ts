import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { choosePackage, examineMachine, type Machine } from '../../../lib/native/gpu-package.js'
import { temporaryFolder } from '../../support/temporary.js'

const folder = temporaryFolder()
afterEach(() => vi.unstubAllEnvs())

/** A machine's files below a folder of their own. */
function machine(files: Record<string, string>): Machine {
  const root = mkdtempSync(join(folder, 'root-'))
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  vi.stubEnv('PATH', root)
  vi.stubEnv('LD_LIBRARY_PATH', '')
  return examineMachine(root)
}

describe.skipIf(process.platform !== 'linux')('what is found out about a machine', () => {
  it.each([
    [
      'NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version: gcc 12\n',
      '550.54.14',
    ],
    ['NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (dvs)\n', '580.82.07'],
  ])("NVIDIA's driver, by its own file: %s", (text, version) => {
    expect(machine({ 'proc/driver/nvidia/version': text }).nvidia).toBe(version)
  })

  it('no GPU', () => {
    expect(machine({})).toMatchObject({ nvidia: undefined, vulkan: false, card: false })
  })

  it('a Vulkan loader', () => {
    expect(machine({ 'usr/lib64/libvulkan.so.1': '' })).toMatchObject({ vulkan: true, card: false })
    expect(machine({ 'dev/dri/renderD128': '' })).toMatchObject({ vulkan: false, card: true })
  })
})

describe('the package for a machine', () => {
  const linux: Machine = { platform: 'linux-x64', glibc: '2.36', nvidia: undefined, vulkan: false, card: true }
  const nvidia = { nvidia: '580.65.06', vulkan: true }

  it.each<[string, Partial<Machine>]>([
    ['@ggflux/linux-x64', {}],
    ['@ggflux/linux-x64-vulkan', { vulkan: true }],
    ['@ggflux/linux-x64', { vulkan: true, card: false }],
    ['@ggflux/linux-x64-cuda', nvidia],
    ['@ggflux/linux-x64-vulkan', { nvidia: '550.54.14', vulkan: true }],
    ['@ggflux/win32-x64-vulkan', { ...nvidia, platform: 'win32-x64', glibc: undefined }],
    ['@ggflux/linux-arm64', { ...nvidia, platform: 'linux-arm64' }],
    ['@ggflux/darwin-arm64', { platform: 'darwin-arm64', glibc: undefined }],
  ])('is %s with %o', (name, found) => {
    expect(choosePackage(undefined, { ...linux, ...found })).toBe(name)
  })

  it.each([
    ['cuda', {}, /^no NVIDIA driver answers/],
    ['cuda', { nvidia: '550.54.14' }, /version 550\.54\.14 and CUDA 13 needs 580/],
    ['cuda', { platform: 'linux-arm64' }, /^there is no package with CUDA for linux-arm64; it computes on the CPU$/],
    ['cuda', { platform: 'win32-x64' }, /there is one with vulkan: npx ggflux setup vulkan$/],
    ['vulkan', { platform: 'darwin-arm64' }, /Metal is part of its package/],
    ['vulkan', { vulkan: true, glibc: '2.31' }, /^the module for Vulkan needs glibc 2\.34 and this system has 2\.31/],
    ['vulkan', {}, /^no Vulkan loader was found; install/],
    ['cpu', { glibc: undefined }, /musl/],
  ] as const)('%s is refused with %o', (wanted, found, message) => {
    expect(() => choosePackage(wanted, { ...linux, ...found })).toThrow(
      expect.objectContaining({ code: 'FLUX_UNSUPPORTED', message: expect.stringMatching(message) }),
    )
  })
})
