import { rename, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { FluxError } from '../errors.js'

const IN_USE = ['EPERM', 'EBUSY', 'EACCES']
/** in milliseconds; virus scanners hold a new file open for a moment */
const PAUSES = [50, 150, 400]

/**
 * Gives a finished file its final name, and replaces a file that has this name. Windows refuses this while a program
 * uses the old file, for example a pipeline that was loaded from it.
 *
 * @param move for tests
 * @throws {FluxError} FLUX_BAD_FILE if the old file is in use; other errors are those of `rename`
 */
export async function renameOver(
  partial: string,
  path: string,
  { platform = process.platform, move = rename }: { platform?: NodeJS.Platform; move?: typeof rename } = {},
): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      return await move(partial, path)
    } catch (cause) {
      if (platform !== 'win32' || !IN_USE.includes((cause as NodeJS.ErrnoException).code ?? '')) throw cause
      if (tries < PAUSES.length) {
        await sleep(PAUSES[tries])
        continue
      }
      // without an old file, the folder is what refuses
      if (!(await stat(path).catch(() => undefined))?.isFile()) throw cause
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${path} cannot be replaced: a program has it open, such as a pipeline that was loaded from it. Close that first, or give another path`,
        { cause },
      )
    }
  }
}
