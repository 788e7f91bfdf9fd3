import { randomUUID } from 'node:crypto'
import { access, constants, open, realpath, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, extname, join, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import { renameOver } from '../formats/rename-over.js'
import type { ImageFormat } from '../index.js'

/** Image formats by suffix, without the dot. */
export const IMAGE_SUFFIXES = {
  png: 'png',
  jpg: 'jpeg',
  jpeg: 'jpeg',
  webp: 'webp',
  avif: 'avif',
} as const satisfies Record<string, ImageFormat>

/**
 * Returns the format for a file's suffix; PNG if there is no suffix.
 *
 * @throws {FluxError} FLUX_BAD_OPTION for any other suffix
 */
export function imageFormat(path: string): ImageFormat {
  const suffix = extname(path).slice(1).toLowerCase()
  if (suffix === '') return 'png'
  if (Object.hasOwn(IMAGE_SUFFIXES, suffix)) return IMAGE_SUFFIXES[suffix as keyof typeof IMAGE_SUFFIXES]
  const known = Object.keys(IMAGE_SUFFIXES).map((name) => `.${name}`)
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `${path}: .${suffix} is not an image format: give a name that ends in ${known.join(', ')}`,
  )
}

/**
 * Checks before the work starts whether a file can be written.
 *
 * @throws {FluxError} FLUX_BAD_OPTION without a name; FLUX_BAD_FILE when it is a folder or is not writable;
 *   FLUX_NOT_FOUND when its folder does not exist
 */
export async function checkTarget(path: string): Promise<void> {
  if (path === '') throw new FluxError('FLUX_BAD_OPTION', "the name of the file to write is ''; expected a path")
  const folder = dirname(resolve(path))
  const refuse = (code: 'FLUX_BAD_FILE' | 'FLUX_NOT_FOUND', why: string): never => {
    throw new FluxError(code, `${path} cannot be written: ${why}`)
  }
  const entry = await stat(path).catch(() => undefined)
  if (entry?.isDirectory() || /[\\/]$/.test(path))
    refuse('FLUX_BAD_FILE', 'this is a folder; give the name of a file in it')
  const parent = await stat(folder).catch(() => undefined)
  if (!parent) refuse('FLUX_NOT_FOUND', `there is no folder ${folder}; make it first`)
  if (!parent!.isDirectory()) refuse('FLUX_BAD_FILE', `${folder} is no folder; give another path`)
  const needed = entry && !entry.isFile() ? path : folder
  const remedy = 'change its permissions or give another path'
  await access(needed, constants.W_OK).catch(() => refuse('FLUX_BAD_FILE', `${needed} may not be written; ${remedy}`))
}

/**
 * Writes a file so that it is complete as soon as it exists: the bytes go to a temporary file next to it, which is then
 * renamed. Links are followed. Anything other than a regular file (a pipe, a device) is written directly.
 */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const entry = await stat(path).catch(() => undefined)
  if (entry && !entry.isFile()) return writeFile(path, bytes)
  const target = entry ? await realpath(path) : path
  const partial = join(dirname(target), `.ggflux-${randomUUID()}.partial`)
  try {
    await writeFile(partial, bytes, { flag: 'wx' })
    await renameOver(partial, target)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}

/**
 * Like {@link replaceFile}, but uses a new name: `stem.suffix`, otherwise `stem-2.suffix` and so on. Returns the name.
 */
export async function writeNewFile(stem: string, suffix: string, bytes: Uint8Array): Promise<string> {
  for (let number = 1; ; number++) {
    const path = `${stem}${number === 1 ? '' : `-${number}`}.${suffix}`
    try {
      await (await open(path, 'wx')).close()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue
      throw error
    }
    try {
      await replaceFile(path, bytes)
      return path
    } catch (error) {
      await rm(path, { force: true })
      throw error
    }
  }
}

/**
 * Saves an image in the working directory or, if that fails, in the directory for temporary files. Returns the path, or
 * undefined if both fail.
 */
export async function keepImage(stem: string, suffix: string, bytes: Uint8Array): Promise<string | undefined> {
  for (const folder of ['', tmpdir()]) {
    try {
      return await writeNewFile(join(folder, stem), suffix, bytes)
    } catch {
      // try the next folder
    }
  }
  return undefined
}

/**
 * Keeps the work running after an error on stdout or stderr, because there may be a file to write. Errors on stderr are
 * ignored, because stderr is only for people. An error on stdout sets the exit code to 1. It is also reported on
 * stderr, unless the reader has simply exited (`ggflux … | head -1`).
 */
export function survivePipes(): void {
  process.stderr.on('error', () => {})
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (!process.exitCode && error.code !== 'EPIPE')
      process.stderr.write(`ggflux: stdout cannot be written: ${error.message}\n`)
    process.exitCode = 1
  })
}

/** Writes to stdout and waits until the bytes are accepted. */
export async function writeStdout(bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) =>
    process.stdout.write(bytes, (error) => (error ? reject(error) : resolve())),
  )
}
