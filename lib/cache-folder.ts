import { homedir } from 'node:os'
import { posix, win32 } from 'node:path'

/**
 * The folder where ggflux keeps what it can make or download again. `GGFLUX_CACHE` where that is set, otherwise `ggflux` in the user's
 * cache folder: `%LOCALAPPDATA%` on Windows, `~/Library/Caches` on macOS, elsewhere `$XDG_CACHE_HOME` or `~/.cache` (XDG Base Directory
 * Specification, which also says to ignore a relative `XDG_CACHE_HOME`). The folder need not exist.
 */
export function cacheFolder(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home: string = homedir(),
): string {
  const path = platform === 'win32' ? win32 : posix
  if (env.GGFLUX_CACHE) return path.resolve(env.GGFLUX_CACHE)
  if (platform === 'win32') return path.join(env.LOCALAPPDATA || path.join(home, 'AppData', 'Local'), 'ggflux')
  if (platform === 'darwin') return path.join(home, 'Library', 'Caches', 'ggflux')
  const xdg = env.XDG_CACHE_HOME
  return path.join(xdg && path.isAbsolute(xdg) ? xdg : path.join(home, '.cache'), 'ggflux')
}
