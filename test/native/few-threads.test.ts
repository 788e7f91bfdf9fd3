import { execFile, spawnSync } from 'node:child_process'
import { copyFileSync, chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { goldenWeights } from '../support/golden.js'

// The limit counts all threads of a user, and root is not held to it: only root can make a user that has no others.
const possible =
  process.getuid?.() === 0 && ['prlimit', 'setpriv'].every((tool) => spawnSync(tool, ['--version']).status === 0)

test.skipIf(!possible)(
  'where the system refuses threads, fewer do the work, and none is an error',
  { timeout: 120_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ggflux-threads-'))
    try {
      chmodSync(folder, 0o755)
      const weights = join(folder, 'flux.safetensors')
      copyFileSync(await goldenWeights('flux-dev-tiny'), weights)
      const user = String(100_000 + process.pid)
      const child = fileURLToPath(new URL('children/few-threads.mjs', import.meta.url))
      const nobody = [
        '--reuid',
        user,
        '--regid',
        user,
        '--clear-groups',
        'prlimit',
        '--nproc=30',
        process.execPath,
        child,
        weights,
      ]
      const { stdout } = await promisify(execFile)('setpriv', nobody)
      const refused = /^FluxError FLUX_DEVICE .*the system gives no further thread .*ulimit -u/
      const [evaluated, predicted, loaded, later] = stdout.split('\n')
      expect(evaluated).toBe('with fewer threads')
      expect(predicted).toMatch(refused)
      expect(loaded).toMatch(refused)
      expect(later).toBe('done')
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
)
