import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { temporaryFolder } from '../support/temporary.js'
import { vulkanEnvironment } from '../support/vulkan.js'

// A driver of ours that ends the process, or never returns.
const folder = temporaryFolder()
const library = join(folder, 'libfailing.so')
const source = fileURLToPath(new URL('../fixtures/failing-vulkan-driver.c', import.meta.url))
const compiled = spawnSync('cc', ['-shared', '-fPIC', '-o', library, source])
const { env, reason: missing } = vulkanEnvironment('swiftshader', folder)
const reason = missing ?? (compiled.status === 0 ? undefined : 'there is no C compiler')
if (reason) console.log(`skipped: a GPU driver that fails (${reason})`)
writeFileSync(
  join(folder, 'failing.json'),
  JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: library, api_version: '1.2.0' } }),
)

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const dist = new URL('../../dist/', import.meta.url).href
const options = (how: 'abort' | 'hang') => ({
  encoding: 'utf8' as const,
  cwd: folder,
  env: { ...process.env, ...env, VK_DRIVER_FILES: join(folder, 'failing.json'), FAILING_DRIVER: how },
})
const run = (how: 'abort' | 'hang', ...args: string[]) => spawnSync(process.execPath, [cli, ...args], options(how))
const cache = join(folder, 'cache', 'ggflux', 'devices.json')

/** The child processes that still try a driver. */
const trials = () =>
  spawnSync('pgrep', ['-f', `device-trial-process.js [0-9]+ ${folder}`], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter(Boolean)

describe.skipIf(reason)('a GPU driver that', () => {
  test('ends the process leads to the CPU, with a warning', () => {
    const { status, stderr } = run('abort', 'generate', 'a red circle', '--seed', '1', '--steps', '1', '-o', 'a.png')
    expect(status, stderr).toBe(0)
    expect(stderr).toMatch(
      /the vulkan module for GPUs cannot be used: its driver ended the process that tried it \(SIGABRT\)/,
    )
    expect(existsSync(join(folder, 'a.png'))).toBe(true)
  })

  test('ends the process is shown by doctor and devices, and named for a named device', () => {
    const doctor = run('abort', 'doctor')
    expect([doctor.status, doctor.stdout]).toEqual([
      0,
      expect.stringMatching(/No GPU is used, because a driver failed: its driver ended the process.*SIGABRT/),
    ])
    expect(run('abort', 'devices').stderr).toMatch(/cannot be used: its driver ended the process/)
    const named = run('abort', 'generate', 'a red circle', '--backend', 'Vulkan0', '-o', 'b.png')
    expect([named.status, named.stderr]).toEqual([
      1,
      expect.stringMatching(/no device for the backend 'Vulkan0'.*SIGABRT.*'ggflux doctor'/s),
    ])
  })

  test('never answers does not hold up an abort, and the child ends', async () => {
    const program = `
      import { ImagePipeline } from '${dist}index.js'
      const began = performance.now()
      await ImagePipeline.load('tiny', { signal: AbortSignal.timeout(1500) }).catch(({ name }) => console.log(name))
      console.log(Math.round(performance.now() - began))`
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], options('hang'))
    const [name, milliseconds] = stdout.trim().split('\n')
    expect(name, stderr).toBe('TimeoutError')
    expect(Number(milliseconds)).toBeLessThan(10_000)
    await sleep(1500)
    expect(trials()).toEqual([])
  })

  test.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)(
    'never answers leaves no child after %s, and nothing is kept of it',
    { timeout: 30_000 },
    async (signal) => {
      const before = existsSync(cache) ? readFileSync(cache, 'utf8') : ''
      const child = spawn(process.execPath, [cli, 'generate', 'a red circle', '-o', 'c.png'], options('hang'))
      const ended = new Promise((resolve) => child.once('exit', resolve))
      while (trials().length === 0) await sleep(100)
      child.kill(signal)
      await ended
      await sleep(1500)
      expect(trials()).toEqual([])
      expect(existsSync(cache) ? readFileSync(cache, 'utf8') : '').toBe(before)
    },
  )
})

test.skipIf(reason)('a user without a home computes on the CPU', () => {
  const { HOME: _, XDG_CACHE_HOME: __, ...others } = options('abort').env as NodeJS.ProcessEnv
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'devices', '--json'], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...others, HOME: '', XDG_CACHE_HOME: 'relative' },
  })
  expect(status, stderr).toBe(0)
  expect(JSON.parse(stdout)).toHaveLength(1)
  expect(existsSync(join(folder, 'relative'))).toBe(false)
})
