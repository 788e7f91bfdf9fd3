// Makes prebuilds/<platform>-<arch> for the npm package: the addon, ggml's base library and every CPU variant of this architecture.
// GGFLUX_CPU_VARIANTS=native makes it with the one variant that fits this machine (the tests do that, to be short).
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const prebuildify = createRequire(import.meta.url).resolve('prebuildify/bin.js')

// prebuildify runs node-gyp, which downloads Node's headers for their two settings files although binding.gyp compiles nothing itself.
const nodedir = mkdtempSync(path.join(os.tmpdir(), 'ggflux-headers-'))
const headers = path.join(nodedir, 'include', 'node')
mkdirSync(headers, { recursive: true })
writeFileSync(path.join(headers, 'common.gypi'), '{}')
writeFileSync(path.join(headers, 'config.gypi'), JSON.stringify(process.config))

const args = [prebuildify, '--napi', '--strip', '-t', process.versions.node]
const result = spawnSync(process.execPath, args, {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, npm_config_nodedir: nodedir },
})
rmSync(nodedir, { recursive: true, force: true })
process.exit(result.status ?? 1)
