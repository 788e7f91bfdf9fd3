import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { temporaryFolder } from '../support/temporary.js'
import { vulkanEnvironment } from '../support/vulkan.js'

// SwiftShader, Chromium's Vulkan driver for CPUs, has no 16-bit storage. ggml lists it, cannot start it, and then ends
// the process at exit. An old graphics card looks the same.
const folder = temporaryFolder()
const { env, reason } = vulkanEnvironment('swiftshader', folder)
if (reason) console.log(`skipped: a GPU that cannot be used (${reason})`)

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const dist = new URL('../../dist/', import.meta.url).href
const options = { encoding: 'utf8', env: { ...process.env, ...env }, cwd: folder } as const
const run = (...args: string[]) => spawnSync(process.execPath, [cli, ...args], options)
const evaluate = (program: string) =>
  spawnSync(process.execPath, ['--input-type=module', '--eval', program.replaceAll('dist:', dist)], options)
const TRYING = 'trying the Vulkan driver, once for each version of it\n'
const cache = join(folder, 'cache', 'ggflux', 'devices.json')

describe.skipIf(reason)('a GPU that cannot be used', () => {
  test('is tried once, in another process, and listed with the reason', () => {
    const first = run('devices', '--json')
    expect(first.stderr).toBe(TRYING)
    const devices = JSON.parse(first.stdout)
    expect(devices).toEqual([
      expect.objectContaining({ name: 'CPU', auto: true }),
      expect.objectContaining({
        name: 'Vulkan0',
        kind: 'gpu',
        backend: 'Vulkan',
        driver: expect.stringMatching(/^SwiftShader driver /),
        refused: expect.stringMatching(/16-bit storage/),
        auto: false,
      }),
    ])
    expect(first.status).toBe(0)
    const second = run('devices', '--json')
    expect(second.stderr).toBe('')
    expect(JSON.parse(second.stdout).map(({ refused }: { refused?: string }) => refused)).toEqual(
      devices.map(({ refused }: { refused?: string }) => refused),
    )
  })

  test('is tried again when the cache is damaged, or of another driver', () => {
    writeFileSync(cache, '{"a": {"failure": 1}')
    expect(run('devices').stderr).toBe(TRYING)
    const other = readFileSync(cache, 'utf8').replace('SwiftShader driver ', 'SwiftShader driver 9')
    writeFileSync(cache, other)
    expect(run('devices').stderr).toBe(TRYING)
    // a card that was not there before
    writeFileSync(cache, readFileSync(cache, 'utf8').replace('"Vulkan0"', '"Vulkan7"'))
    expect(run('devices').stderr).toBe(TRYING)
    expect(run('devices').stderr).toBe('')
  })

  test("'auto' passes it over with a warning, and draws what the CPU draws", () => {
    const draw = (backend: string) =>
      run('generate', 'a red circle', '--seed', '1', '--steps', '2', '--backend', backend, '-o', `${backend}.png`)
    const auto = draw('auto')
    expect(auto.status, auto.stderr).toBe(0)
    expect(auto.stderr).toMatch(/the GPU Vulkan0 \(SwiftShader Device.*\) cannot be used: it lacks 16-bit storage/)
    const cpu = draw('cpu')
    expect(cpu.status).toBe(0)
    expect(cpu.stderr).not.toMatch(/Vulkan/)
    expect(readFileSync(join(folder, 'auto.png')).equals(readFileSync(join(folder, 'cpu.png')))).toBe(true)
  })

  test('the warning is an event of the first image only', () => {
    const { stdout, stderr, status } = evaluate(`
      import { ImagePipeline } from 'dist:index.js'
      const pipe = await ImagePipeline.load('tiny')
      const told = []
      for (const seed of [1, 2])
        for await (const event of pipe.stream({ prompt: 'a red circle', seed, steps: 1 }))
          if (event.type === 'warning') told.push([seed, event.message])
      await pipe.close()
      console.log(JSON.stringify(told))`)
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(JSON.parse(stdout)).toEqual([[1, expect.stringMatching(/Vulkan0 .* cannot be used/)]])
  })

  test.each(['Vulkan0', 'vulkan0', 'gpu'])(
    "'%s' is refused with FLUX_DEVICE, and the process ends as it should",
    (backend) => {
      const { status, signal, stderr } = run('generate', 'a red circle', '--backend', backend, '-o', 'refused.png')
      expect([status, signal]).toEqual([1, null])
      expect(stderr).toMatch(/Vulkan0 \(SwiftShader Device.*cannot be used: it lacks 16-bit storage.*'ggflux doctor'/)
      expect(existsSync(join(folder, 'refused.png'))).toBe(false)
    },
  )

  test('doctor tells it in words', () => {
    const { status, stdout } = run('doctor')
    expect(status).toBe(0)
    expect(stdout).toMatch(/refused {2}Vulkan0: SwiftShader/)
    expect(stdout).toMatch(/Vulkan0 \(SwiftShader.*\) is not used: it lacks 16-bit storage/)
    expect(run('doctor', '--retry').stderr).toBe(TRYING)
  })

  test('a driver that fails in this process gives FLUX_DEVICE, and the exit status stays', () => {
    const { status, signal, stdout, stderr } = evaluate(`
      import { nativeAddon } from 'dist:native/addon.js'
      import { findGpuModules } from 'dist:native/locate.js'
      import { openNetworkFile } from 'dist:networks/network-file.js'
      import { networkDefinition } from 'dist:networks/registry.js'
      const addon = nativeAddon()
      addon.loadModule(findGpuModules()[0].file)
      const { kind, file, tensors, config } = await openNetworkFile('clip', ${JSON.stringify(fileURLToPath(new URL('../../models/tiny/clip.gguf', import.meta.url)))})
      const numbers = networkDefinition(kind).nativeConfig(config)
      const network = new addon.Network(kind, [file.path], tensors, numbers, { device: 'Vulkan0', threads: 1, precision: 'auto' })
      await network.load(1e10).catch(({ message }) => console.log(message))
      await network.close()
      process.exitCode = 7`)
    expect(stdout, stderr).toMatch(/^FLUX_DEVICE: Vulkan0 failed: .*; restart the program, update the driver/)
    expect([status, signal]).toEqual([7, null])
  })
})
