import { expect, it } from 'vitest'
import { cacheFolder } from '../../lib/cache-folder.js'

it.each<[NodeJS.ProcessEnv, NodeJS.Platform, string, string]>([
  [{}, 'linux', '/home/ada', '/home/ada/.cache/ggflux'],
  [{ XDG_CACHE_HOME: '/var/cache/ada' }, 'linux', '/home/ada', '/var/cache/ada/ggflux'],
  [{ XDG_CACHE_HOME: 'relative' }, 'linux', '/home/ada', '/home/ada/.cache/ggflux'],
  [{ XDG_CACHE_HOME: '' }, 'freebsd', '/home/ada', '/home/ada/.cache/ggflux'],
  [{ XDG_CACHE_HOME: '/var/cache/ada' }, 'darwin', '/Users/ada', '/Users/ada/Library/Caches/ggflux'],
  [{ LOCALAPPDATA: 'D:\\local' }, 'win32', 'C:\\Users\\ada', 'D:\\local\\ggflux'],
  [{}, 'win32', 'C:\\Users\\ada', 'C:\\Users\\ada\\AppData\\Local\\ggflux'],
  [{ GGFLUX_CACHE: '/data/cache', XDG_CACHE_HOME: '/var/cache/ada' }, 'linux', '/home/ada', '/data/cache'],
  [{ GGFLUX_CACHE: 'E:\\models' }, 'win32', 'C:\\Users\\ada', 'E:\\models'],
])('%o on %s', (env, platform, home, expected) => {
  expect(cacheFolder(env, platform, home)).toBe(expected)
})
