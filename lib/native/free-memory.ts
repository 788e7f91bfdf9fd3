import { readFileSync } from 'node:fs'
import { freemem, totalmem } from 'node:os'
import { join } from 'node:path'

/** The machine's memory in bytes, or its container's limit if that is lower. */
export function totalMemory(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Infinity)
}

/**
 * Bytes that this process may still allocate without being killed.
 *
 * In a Linux container, Node counts cached files as used memory, and mapped models fill that cache. The system frees
 * this cache before it refuses an allocation, so the cache is added here. macOS keeps hardly any page free, compresses
 * idle pages, and reports only free pages to Node. Half of its memory counts as available there.
 */
export function freeMemory(): number {
  if (process.platform === 'darwin') return Math.max(freemem(), totalmem() / 2)
  const inContainer = process.availableMemory()
  return process.platform === 'linux' ? Math.min(freemem(), inContainer + cachedFiles()) : inContainer
}

/**
 * Bytes of cached files that count as used in this process's control group, as the kernel's own MemAvailable counts
 * them outside of one; 0 if there is no group. Source: docs.kernel.org, admin-guide/cgroup-v2.rst and
 * cgroup-v1/memory.rst (`memory.stat`).
 *
 * @param root the folder that contains `proc` and `sys`
 */
export function cachedFiles(root = '/'): number {
  const groups = read(root, 'proc/self/cgroup')
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)
  // the only line of version 2; next to version 1 it may have no controllers
  const path = v1?.[1] ?? /^0::(.*)$/m.exec(groups)?.[1]
  if (path === undefined) return 0
  const place = v1 ? 'sys/fs/cgroup/memory' : 'sys/fs/cgroup'
  // inside a container the path may be the host's, and the group is then the root of the mount
  const stat = read(root, place, path, 'memory.stat') || read(root, place, 'memory.stat')
  const lines = stat.matchAll(v1 ? /^total_(?:in)?active_file (\d+)$/gm : /^(?:in)?active_file (\d+)$/gm)
  return [...lines].reduce((sum, [, bytes]) => sum + Number(bytes), 0)
}

function read(...path: string[]): string {
  try {
    return readFileSync(join(...path), 'utf8')
  } catch {
    return ''
  }
}
