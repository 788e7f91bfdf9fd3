// Makes prebuilds/<platform>-<arch> for the npm package: the addon, ggml's base library and every CPU variant of this architecture.
// GGFLUX_CPU_VARIANTS=native makes it with the one variant that fits this machine (the tests do that, to be short).
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const prebuildify = createRequire(import.meta.url).resolve('prebuildify/bin.js')

// prebuildify runs node-gyp, which wants Node's headers although nothing here includes them: those beside this Node save a download.
const nodedir = path.resolve(process.execPath, '..', '..')
const env = { ...process.env }
if (existsSync(path.join(nodedir, 'include', 'node', 'common.gypi'))) env.npm_config_nodedir = nodedir

const args = [prebuildify, '--napi', '--strip', '-t', process.versions.node]
const result = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit', env })
process.exit(result.status ?? 1)
