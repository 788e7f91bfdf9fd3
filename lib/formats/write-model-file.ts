import { randomUUID } from 'node:crypto'
import { open, readdir, rm, stat, statfs, type FileHandle } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { FluxError, type FluxErrorCode } from '../errors.js'
import { isLocked } from '../native/file-lock.js'
import { nativeLockFile } from '../native/addon.js'
import type { FileHeader, TensorSource } from './file-header.js'
import { ggufHeader } from './gguf/write.js'
import type { MetadataValue } from './model-file.js'
import { renameOver } from './rename-over.js'
import { safetensorsHeader } from './safetensors/write.js'
import { quoted } from './tensor-table.js'
import { tensorBytes } from './tensor-types.js'

const HEADERS: Record<string, (tensors: TensorSource[], metadata: Record<string, MetadataValue>) => FileHeader> = {
  '.gguf': ggufHeader,
  '.safetensors': safetensorsHeader,
}

/**
 * Writes a model file, GGUF (version 3) or safetensors depending on the suffix of `path`. Tensors keep their order. The
 * data is written to a file next to `path`, which is renamed only after everything is written and flushed. A failure
 * leaves no file. A file left by a killed process is removed when the same path is written again.
 *
 * Metadata in GGUF: whole numbers become UINT32, INT32 or 64-bit integers, other numbers FLOAT32, bigints 64-bit
 * integers; typed arrays keep their type. In safetensors: strings as they are, numbers and booleans as text, no arrays.
 *
 * @param onProgress bytes of tensor data written, and the total
 * @returns the file's size in bytes
 * @throws {FluxError} FLUX_BAD_OPTION for another suffix, a wrong shape, type, name or metadata value; FLUX_BAD_SHAPE
 *   if a tensor's data does not have the length of its shape; FLUX_NOT_FOUND if the folder is missing, FLUX_BAD_FILE if
 *   the path is not writable or the disk has too little space, both before any data is requested
 */
export async function writeModelFile(
  path: string,
  tensors: TensorSource[],
  metadata: Record<string, MetadataValue> = {},
  onProgress?: (done: number, total: number) => void,
): Promise<number> {
  const makeHeader = HEADERS[extname(path).toLowerCase()]
  if (!makeHeader)
    throw new FluxError('FLUX_BAD_OPTION', `${path}: the suffix has to be ${Object.keys(HEADERS).join(' or ')}`)
  checkTensors(tensors)
  const { header, alignment } = makeHeader(tensors, metadata)
  const total = tensors.reduce((sum, { type, shape }) => sum + tensorBytes(type, shape), 0)
  const fail = (cause: NodeJS.ErrnoException): never => {
    throw cause instanceof FluxError ? cause : writeError(path, cause.code, cause)
  }
  if ((await stat(path).catch(() => undefined))?.isDirectory()) throw writeError(path, 'EISDIR')
  const { partial, handle } = await openPartial(path).catch(async (cause: NodeJS.ErrnoException) => {
    // Windows has one error for a missing folder and for a name that it does not permit
    const folder = await stat(dirname(resolve(path))).catch(() => undefined)
    throw writeError(path, cause.code === 'ENOENT' && folder?.isDirectory() ? 'ENAMETOOLONG' : cause.code, cause)
  })
  try {
    await removeAbandoned(path, partial)
    await checkSpace(path, header.length + total)
    let size = 0
    const write = async (bytes: Uint8Array): Promise<void> => {
      await writeAll(handle, bytes).catch(fail)
      size += bytes.length
    }
    await write(header)
    let done = 0
    for (const tensor of tensors) {
      const length = tensorBytes(tensor.type, tensor.shape)
      for await (const piece of pieces(tensor, length)) {
        await write(piece)
        onProgress?.((done += piece.length), total)
      }
      await write(Buffer.alloc(-length & (alignment - 1)))
    }
    await handle.sync().catch(fail)
    // before the lock is released, so that no other process takes the file for an abandoned one
    await renameOver(partial, path).catch(fail)
    return size
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  } finally {
    await handle.close()
  }
}

const WRITE_ERRORS: Record<string, [code: FluxErrorCode, why: string]> = {
  ENOENT: ['FLUX_NOT_FOUND', 'there is no such folder; make it first'],
  ENOTDIR: ['FLUX_NOT_FOUND', 'a part of the path is no folder; give another path'],
  ENAMETOOLONG: ['FLUX_BAD_FILE', 'the name is too long, or has a character that is not permitted; give another path'],
  EISDIR: ['FLUX_BAD_FILE', 'this is a folder; give the name of a file in it'],
  EACCES: ['FLUX_BAD_FILE', 'its folder may not be written; change its permissions or give another path'],
  EPERM: ['FLUX_BAD_FILE', 'its folder may not be written; change its permissions or give another path'],
  EROFS: ['FLUX_BAD_FILE', 'the disk is read-only; give another path'],
  ENOSPC: ['FLUX_BAD_FILE', 'the disk is full; make room or give another path'],
  EDQUOT: ['FLUX_BAD_FILE', 'the disk quota is used up; make room or give another path'],
}

function writeError(path: string, errno = '', cause?: Error): FluxError {
  const [code, why] = WRITE_ERRORS[errno] ?? ['FLUX_BAD_FILE', String(cause?.message)]
  return new FluxError(code, `${path} cannot be written: ${why}`, { cause })
}

/**
 * Creates a file next to `path` and holds its lock while it is open. The lock distinguishes it from a file that a
 * killed process left.
 */
async function openPartial(path: string): Promise<{ partial: string; handle: FileHandle }> {
  for (;;) {
    const partial = `${path}.${randomUUID()}.partial`
    const handle = await open(partial, 'wx')
    // another process may look for abandoned files between the two calls: it takes the lock, then removes the file
    if (tryLock(handle) && (await stat(partial).catch(() => undefined))) return { partial, handle }
    await handle.close()
    await rm(partial, { force: true })
  }
}

/** also true if the native addon is missing, because random weights do not need it */
function tryLock(handle: FileHandle): boolean {
  try {
    return nativeLockFile(handle.fd)
  } catch {
    return true
  }
}

/** Removes the files that killed processes left when they wrote to `path`. */
async function removeAbandoned(path: string, own: string): Promise<void> {
  const inUse = (file: string) => isLocked(file).catch(() => true)
  const folder = dirname(resolve(path))
  const [before, after] = [`${basename(path)}.`, '.partial']
  const names = await readdir(folder).catch(() => [])
  const partials = names.filter(
    (name) => name.startsWith(before) && name.endsWith(after) && UUID.test(name.slice(before.length, -after.length)),
  )
  // on a file system without locks, even our own file appears unlocked
  if (partials.length < 2 || !(await inUse(own))) return
  for (const name of partials)
    if (!(await inUse(join(folder, name)))) await rm(join(folder, name), { force: true }).catch(() => {})
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

async function checkSpace(path: string, bytes: number): Promise<void> {
  const disk = await statfs(dirname(resolve(path))).catch(() => undefined)
  // some file systems do not report their size
  if (!disk || disk.blocks === 0) return
  const free = disk.bavail * disk.bsize
  const mb = (count: number) => `${Math.ceil(count / 1e6)} MB`
  if (bytes > free)
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${path} cannot be written: it takes ${mb(bytes)}, and the disk has ${mb(free)} left; make room or give another path`,
    )
}

function checkTensors(tensors: TensorSource[]): void {
  const names = new Set<string>()
  for (const { name, type, shape } of tensors) {
    if (names.has(name)) throw new FluxError('FLUX_BAD_OPTION', `tensor ${quoted(name)} is given twice`)
    names.add(name)
    if (shape.every((dimension) => Number.isSafeInteger(dimension) && dimension > 0) && tensorBytes(type, shape) > 0)
      continue
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `tensor ${quoted(name)}: shape [${shape.join(', ')}] does not go with type ${type}`,
    )
  }
}

async function* pieces({ name, data }: TensorSource, length: number): AsyncGenerator<Uint8Array> {
  let given = 0
  for await (const piece of typeof data === 'function' ? data() : [data]) {
    given += piece.length
    if (given > length) break
    yield piece
  }
  if (given !== length) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `tensor ${quoted(name)}: its shape and type make ${length} bytes, ${given > length ? 'more' : `only ${given}`} were given`,
    )
  }
}

/** `FileHandle.write` may write fewer bytes than it receives. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length; ) written += (await handle.write(bytes, written)).bytesWritten
}
