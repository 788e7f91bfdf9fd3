import { spawn, spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'

// scripts/ggml.mjs fetches and unpacks the source of ggml. Here a small package with a git bundle of the same form stands in for the real one.
const script = new URL('../../../scripts/ggml.mjs', import.meta.url).href
const temporary = mkdtempSync(path.join(os.tmpdir(), 'ggflux-source-'))
afterAll(() => rmSync(temporary, { recursive: true, force: true }))

interface Source {
  version: string
  package: string
  integrity: string
}

let source: Source
let clone: string

beforeAll(() => {
  const release = path.join(temporary, 'release')
  const folder = path.join(temporary, 'stand-in')
  mkdirSync(path.join(release, 'ggml', 'src', 'ggml-opencl'), { recursive: true })
  mkdirSync(path.join(folder, 'llama'), { recursive: true })
  writeFileSync(path.join(release, 'LICENSE'), 'a licence\n')
  writeFileSync(path.join(release, 'ggml', 'CMakeLists.txt'), 'project(ggml)\n')
  writeFileSync(path.join(release, 'ggml', 'src', 'ggml-opencl', 'unused.cpp'), '\n')
  writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ name: 'stand-in', version: '1.0.0' }))
  const git = (...args: string[]) =>
    expect(spawnSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { cwd: release }).status).toBe(0)
  git('init', '--quiet')
  git('add', '.')
  git('commit', '--quiet', '--message', 'release')
  git('bundle', 'create', '--quiet', path.join(folder, 'llama', 'gitRelease.bundle'), 'HEAD')
  expect(spawnSync('npm', ['pack', folder], { cwd: temporary }).status).toBe(0)
  const hash = createHash('sha512').update(readFileSync(path.join(temporary, 'stand-in-1.0.0.tgz')))
  source = { version: '0.0.0', package: folder, integrity: `sha512-${hash.digest('base64')}` }
})

beforeEach(() => {
  clone = mkdtempSync(path.join(temporary, 'clone-'))
})

const program = (given?: Source) =>
  `import { ensureGgml } from ${JSON.stringify(script)}
   try { ensureGgml(process.cwd(), ...${JSON.stringify(given ? [given] : [])}) } catch (error) { console.error(error.message); process.exit(1) }`

const environment = (extra: Record<string, string> = {}) => {
  const { npm_execpath, ...env } = process.env
  return { ...env, ...extra }
}

function ensure(given?: Source, env?: Record<string, string>): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, ['--input-type=module', '--eval', program(given)], {
    cwd: clone,
    env: environment(env),
    encoding: 'utf8',
  })
}

/** A folder for the head of PATH, in which `git` is a shell script. */
function withGit(lines: string): Record<string, string> {
  const folder = mkdtempSync(path.join(temporary, 'bin-'))
  writeFileSync(path.join(folder, 'git'), `#!/bin/sh\n${lines}\n`)
  chmodSync(path.join(folder, 'git'), 0o755)
  return { PATH: `${folder}${path.delimiter}${process.env.PATH}` }
}

const shell = test.skipIf(process.platform === 'win32')
if (process.platform === 'win32')
  console.log('skipped: what a git that fails or hangs leaves (the stand-in for git is a shell script)')

const everything = () => readdirSync(clone, { recursive: true }).map(String).sort()

test('the source is unpacked without the backends that no build uses, and nothing else stays', () => {
  const { status, stderr } = ensure(source)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(everything()).toEqual([
    'build',
    'ggml',
    'ggml/.ggflux-source',
    'ggml/CMakeLists.txt',
    'ggml/LICENSE',
    'ggml/src',
  ])
  expect(readFileSync(path.join(clone, 'ggml', 'CMakeLists.txt'), 'utf8')).toBe('project(ggml)\n')
})

test('a tarball with another hash is refused, and nothing is left behind', () => {
  const { status, stderr } = ensure({ ...source, integrity: 'sha512-AAAA' })
  expect(status).toBe(1)
  expect(stderr).toContain(source.integrity)
  expect(stderr).toContain('sha512-AAAA')
  expect(stderr).toMatch(/What to do: .*npm cache clean/)
  expect(everything()).toEqual(['build'])
})

test('without a network the message tells the ways out', () => {
  const { status, stderr } = ensure(undefined, {
    npm_config_registry: 'http://127.0.0.1:9/',
    npm_config_cache: path.join(temporary, 'empty-cache'),
    npm_config_fetch_retry_mintimeout: '1',
    npm_config_fetch_retry_maxtimeout: '1',
  })
  expect(status).toBe(1)
  expect(stderr).toContain('ECONNREFUSED')
  expect(stderr).toMatch(
    /What to do: check the network or the proxy.*npm cache add node-llama-cpp@.*copy the folder ggml\/ from another clone/s,
  )
  expect(everything()).toEqual(['build'])
})

test('a folder that is there is used as it is, without any other program', () => {
  mkdirSync(path.join(clone, 'ggml'))
  writeFileSync(path.join(clone, 'ggml', '.ggflux-source'), source.integrity)
  const { status, stdout, stderr } = ensure(source, { PATH: '' })
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' })
  expect(everything()).toEqual(['ggml', 'ggml/.ggflux-source'])
})

test('without PATH a folder of another release is not taken for this one, and stays as it was', () => {
  mkdirSync(path.join(clone, 'ggml'))
  writeFileSync(path.join(clone, 'ggml', '.ggflux-source'), 'sha512-older')
  const { status, stderr } = ensure(source, { PATH: '' })
  expect(status).toBe(1)
  expect(stderr).toMatch(/could not fetch the source of ggml.*ENOENT.*What to do:/s)
  expect(readFileSync(path.join(clone, 'ggml', '.ggflux-source'), 'utf8')).toBe('sha512-older')
})

shell('a failure of git is told, and nothing is left behind', () => {
  const { status, stderr } = ensure(source, withGit('echo no space left >&2; exit 128'))
  expect(status).toBe(1)
  expect(stderr).toMatch(/could not unpack the source of ggml: git clone .*no space left/s)
  expect(everything()).toEqual(['build'])
})

shell('Ctrl-C during the unpacking leaves nothing', async () => {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program(source)], {
    cwd: clone,
    env: environment(withGit('touch started; exec sleep 60')),
    detached: true, // a process group of its own, as a terminal gives it
    stdio: 'ignore',
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const started = path.join(clone, 'build', 'ggml-source', 'started')
  while (!existsSync(started) && child.exitCode === null) await setTimeout(20)
  process.kill(-child.pid!, 'SIGINT')
  expect(await ended).toBe(1)
  expect(everything()).toEqual(['build'])
})

shell('what a killed run left is not taken for the source, and is gone after the next run', () => {
  expect(ensure(source, withGit('kill -9 $PPID')).signal).toBe('SIGKILL')
  expect(existsSync(path.join(clone, 'ggml'))).toBe(false)
  expect(ensure(source).status).toBe(0)
  expect(everything()).toEqual([
    'build',
    'ggml',
    'ggml/.ggflux-source',
    'ggml/CMakeLists.txt',
    'ggml/LICENSE',
    'ggml/src',
  ])
})
