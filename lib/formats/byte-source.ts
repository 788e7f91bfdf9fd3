import { open, type FileHandle } from 'node:fs/promises'
import { FluxError } from '../errors.js'

/** Distinguishes a file on disk from a later file at the same path. */
export interface FileVersion {
  path: string
  size: number
  mtimeMs: number
}

/** Random access to bytes: of a file on disk, a buffer or a remote file. */
export interface Source {
  /** the name used in messages */
  path: string
  /** in bytes */
  size: number
  /** only for a file on disk */
  version?: FileVersion
  /** Returns exactly `length` bytes from `offset`. The range must be inside the source. The caller owns the buffer. */
  read(offset: number, length: number): Promise<Buffer>
}

/** Returns an empty list for a source that is not on disk. */
export function versionOf({ version }: Source): FileVersion[] {
  return version ? [version] : []
}

const OPEN_ERRORS: Record<string, [code: 'FLUX_NOT_FOUND' | 'FLUX_BAD_FILE', message: string]> = {
  ENOENT: ['FLUX_NOT_FOUND', 'there is no such file. Check the path (it is relative to the working directory)'],
  ENOTDIR: ['FLUX_NOT_FOUND', 'there is no such file: a part of the path is not a folder'],
  EISDIR: ['FLUX_BAD_FILE', 'this is a folder. Give the model file inside it'],
  EACCES: ['FLUX_BAD_FILE', 'the file is not readable. Check its permissions'],
  EPERM: ['FLUX_BAD_FILE', 'the file is not readable. Check its permissions'],
}

/** Opens a file, or uses a source as it is, while `use` runs. */
export async function withSource<T>(input: string | Source, use: (source: Source) => Promise<T>): Promise<T> {
  if (typeof input !== 'string') return use(input)
  let handle: FileHandle | undefined
  try {
    handle = await open(input, 'r')
    return await use(await fileSource(input, handle))
  } catch (error) {
    if (error instanceof FluxError) throw error
    const [code, message] = OPEN_ERRORS[(error as NodeJS.ErrnoException).code ?? ''] ?? [
      'FLUX_BAD_FILE',
      `cannot be read: ${String(error)}`,
    ]
    throw new FluxError(code, `${input}: ${message}`, { cause: error })
  } finally {
    await handle?.close()
  }
}

async function fileSource(path: string, handle: FileHandle): Promise<Source> {
  const stat = await handle.stat()
  if (stat.isDirectory()) throw new FluxError('FLUX_BAD_FILE', `${path}: ${OPEN_ERRORS.EISDIR![1]}`)
  if (!stat.isFile())
    throw new FluxError('FLUX_BAD_FILE', `${path}: this is no regular file (a device or a pipe). Give a model file`)
  return {
    path,
    size: stat.size,
    version: { path, size: stat.size, mtimeMs: stat.mtimeMs },
    async read(offset, length) {
      const buffer = Buffer.allocUnsafe(length)
      let filled = 0
      while (filled < length) {
        const { bytesRead } = await handle.read(buffer, filled, length - filled, offset + filled)
        if (bytesRead === 0) {
          throw new FluxError(
            'FLUX_BAD_FILE',
            `${path}: the file ended at byte ${offset + filled} while it was read. Is it still being written?`,
          )
        }
        filled += bytesRead
      }
      return buffer
    },
  }
}
