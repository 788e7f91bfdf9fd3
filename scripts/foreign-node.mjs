// What the checks of builds for other platforms share: Node.js for that platform, compiled tests, and the report.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build } from './build.mjs'
import { npm } from './ggml.mjs'

export const root = fileURLToPath(new URL('..', import.meta.url))

const NODE = '22.23.3'

/** The program of the npm package `node-<platform>`, downloaded once. */
export function foreignNode(platform) {
  const folder = path.join(root, 'node_modules', '.cache', 'ggflux', `node-${platform}`)
  const name = `node-${platform}`
  const program = path.join(folder, 'node_modules', name, 'bin', platform.startsWith('win') ? 'node.exe' : 'node')
  if (existsSync(program)) return program
  mkdirSync(folder, { recursive: true })
  // --force: npm refuses packages of other platforms
  const options = ['--no-save', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--force']
  const result = npm(['install', '--prefix', folder, ...options, `${name}@${NODE}`], folder)
  if (!existsSync(program)) throw new Error(`${name}@${NODE} could not be installed:\n${result.stderr?.trim()}`)
  return program
}

/** Why there is no such Node.js; undefined if there is one. */
export function whyNoNode(platform) {
  try {
    foreignNode(platform)
    return undefined
  } catch (error) {
    return error.message
  }
}

/** The first of these programs that is there. */
export function findProgram(...names) {
  const folders = ['', ...(process.env.PATH ?? '').split(path.delimiter)]
  return names.flatMap((name) => folders.map((folder) => path.join(folder, name))).find((file) => existsSync(file))
}

/** Compiles all tests for test/support/without-vitest; Node.js 22 does not have everything that they are written in. */
export function compileTests() {
  const folder = path.join(root, 'build', 'compiled-tests')
  const tsc = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const args = [tsc, '-p', 'tsconfig.test.json', '--noEmit', 'false', '--outDir', folder]
  const { status, stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
  if (status !== 0) throw new Error(`the tests could not be compiled:\n${stdout}`)
  return folder
}

/** Runs a program whose output goes to a file: under wine Node.js cannot write to a pipe. */
export async function runToFile(program, args, { log, seconds = 300, ...options }) {
  const output = openSync(log, 'w')
  const child = spawn(program, args, { cwd: root, stdio: ['ignore', output, output], ...options })
  const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000)
  const [status] = await once(child, 'exit')
  clearTimeout(timer)
  closeSync(output)
  return { status, output: readFileSync(log, 'utf8') }
}

/** Compiles the addon unless --no-build was given, and returns its folder. */
export function compileFor(target, { variants, 'no-build': noBuild }) {
  if (noBuild) return path.join(root, 'build', target)
  const began = performance.now()
  const folder = build({ target, variants })
  console.log(`compiled in ${((performance.now() - began) / 1000).toFixed(0)} s`)
  return folder
}

/**
 * Runs `main` with the options and files of the command line. Exits with 2 if `whyNot` gives a reason why the check
 * cannot run here.
 */
export async function runCheck(whyNot, main, options = {}) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { variants: { type: 'string', default: 'native' }, 'no-build': { type: 'boolean' }, ...options },
  })
  const reason = whyNot()
  if (reason) {
    console.log(`skipped: ${reason}`)
    process.exit(2)
  }
  await main(values, positionals)
}

/** Runs checks one after the other, prints a line for each, and sets the exit code. */
export async function report(checks) {
  for (const [name, check] of checks) {
    const began = performance.now()
    let failure
    try {
      await check()
    } catch (error) {
      failure = error
      process.exitCode = 1
    }
    const took = `${((performance.now() - began) / 1000).toFixed(1)} s`
    console.log(`${failure ? 'FAILED' : 'ok    '} ${name} (${took})${failure ? `\n${failure.message}` : ''}`)
  }
}
