import { readFileSync } from 'node:fs'
import { freemem, totalmem } from 'node:os'
import { join } from 'node:path'

/** Bytes that this machine has, or fewer where its container allows fewer. */
export function totalMemory(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Infinity)
}

/**
 * Bytes that this process may still take without being killed for it.
 *
 * In a container on Linux Node counts cached files as used, and mapped models fill that cache; the system gives it back before it refuses
 * anything, so it is added. macOS leaves hardly any page free, compresses what is idle, and tells Node of free pages alone: half of its memory
 * counts as available there.
 */
export function freeMemory(): number {
  if (process.platform === 'darwin') return Math.max(freemem(), totalmem() / 2)
  const inContainer = process.availableMemory()
  return process.platform === 'linux' ? Math.min(freemem(), inContainer + cachedFiles()) : inContainer
}

/**
 * Bytes of cached files that count as used in this process' control group, as the kernel's own MemAvailable counts them outside of one; 0 where
 * there is no group. Source: docs.kernel.org, admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst (`memory.stat`).
 *
 * @param root where `proc` and `sys` are
 */
export function cachedFiles(root = '/'): number {
  const groups = read(root, 'proc/self/cgroup')
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)
  // the second version's only line; beside the first one it may have no controllers
  const path = v1?.[1] ?? /^0::(.*)$/m.exec(groups)?.[1]
  if (path === undefined) return 0
  const place = v1 ? 'sys/fs/cgroup/memory' : 'sys/fs/cgroup'
  // inside of a container the path may be the host's, and the group is the root of what is mounted
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
