import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { freemem, tmpdir, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { cachedFiles, freeMemory, totalMemory } from '../../../lib/native/free-memory.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-free-memory-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** A machine's files below a folder of their own. */
function machine(files: Record<string, string>): string {
  const root = mkdtempSync(join(folder, 'root-'))
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  return root
}

/** as the kernel writes them (admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst) */
const V2 =
  'anon 1000\nfile 3000\nfile_mapped 500\ninactive_anon 900\nactive_anon 100\ninactive_file 2000\nactive_file 700\nunevictable 0\n'
const V1 =
  'cache 3000\nrss 1000\ninactive_file 20\nactive_file 7\nhierarchical_memory_limit 9000\ntotal_inactive_file 2000\ntotal_active_file 700\n'

describe('cached files of a control group', () => {
  it.each<[string, Record<string, string>, number]>([
    [
      'version 2, by its path',
      {
        'proc/self/cgroup': '0::/box\n',
        'sys/fs/cgroup/box/memory.stat': V2,
        'sys/fs/cgroup/memory.stat': 'inactive_file 1\n',
      },
      2700,
    ],
    ['version 2, in a namespace of its own', { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/memory.stat': V2 }, 2700],
    [
      "version 2, by the host's path",
      { 'proc/self/cgroup': '0::/docker/1234\n', 'sys/fs/cgroup/memory.stat': V2 },
      2700,
    ],
    [
      'version 1, groups below included',
      { 'proc/self/cgroup': '5:devices:/\n4:memory:/box\n0::/\n', 'sys/fs/cgroup/memory/box/memory.stat': V1 },
      2700,
    ],
    [
      'version 1, with another controller',
      { 'proc/self/cgroup': '4:cpu,memory:/docker/1\n', 'sys/fs/cgroup/memory/memory.stat': V1 },
      2700,
    ],
    ['none', { 'proc/self/cgroup': '5:devices:/\n1:name=systemd:/\n' }, 0],
    ['no statistics', { 'proc/self/cgroup': '0::/\n' }, 0],
    ['another system', {}, 0],
  ])('%s', (_, files, bytes) => expect(cachedFiles(machine(files))).toBe(bytes))
})

describe('memory', () => {
  it('is what this machine has, less what is in use', () => {
    expect(totalMemory()).toBeLessThanOrEqual(totalmem())
    expect(freeMemory()).toBeGreaterThan(0)
    expect(freeMemory()).toBeLessThanOrEqual(totalmem())
  })

  it('of a container is what the container may take', () => {
    using _ = spied(vi.spyOn(process, 'constrainedMemory').mockReturnValue(5000))
    expect(totalMemory()).toBe(5000)
  })

  it.runIf(process.platform === 'linux')(
    'of a container counts cached files as free, and not what other containers of the machine hold',
    () => {
      const cached = cachedFiles()
      using _ = spied(vi.spyOn(process, 'availableMemory').mockReturnValue(1e6))
      const free = freeMemory()
      expect(free).toBeGreaterThan(Math.min(1e6 + cached, freemem()) / 2)
      using _more = spied(vi.spyOn(process, 'availableMemory').mockReturnValue(2 * totalmem()))
      expect(freeMemory()).toBeLessThan(totalmem())
    },
  )
})

function spied(spy: { mockRestore(): void }): Disposable {
  return { [Symbol.dispose]: () => spy.mockRestore() }
}
