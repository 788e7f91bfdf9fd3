import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { nativeLockFile } from './addon.js'

const BETWEEN_TRIES = 200

/** Whether a process holds a lock file now. */
export async function isLocked(path: string): Promise<boolean> {
  const handle = await open(path, 'r').catch(() => undefined)
  try {
    return handle !== undefined && !nativeLockFile(handle.fd)
  } finally {
    await handle?.close()
  }
}

/**
 * Runs `work` while this process holds a lock file exclusively. It uses the system's lock (flock, LockFile), like the
 * other tools that share the cache. The lock ends with the process that holds it, even after a crash.
 */
export async function withFileLock<T>(
  path: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(dirname(path), { recursive: true })
  const handle = await open(path, 'a+') // LockFileEx wants a file that can be read
  try {
    while (!nativeLockFile(handle.fd))
      await sleep(BETWEEN_TRIES, undefined, signal ? { signal } : {}).catch(() => signal!.throwIfAborted())
    return await work()
  } finally {
    await handle.close()
  }
}
