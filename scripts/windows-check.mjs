// Compiles ggflux for Windows with mingw-w64 and checks it under wine with Node.js for Windows.
//   node scripts/windows-check.mjs [--variants native|all] [--no-build] [--long] [test/native/lora-merge.test.ts …]
// --long runs some files of tests as well, by test/support/without-vitest; so do the files that are named.
// Debian, Ubuntu: apt install g++-mingw-w64-x86-64-posix wine64
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { PNG } from 'pngjs'
import {
  compileFor,
  compileTests,
  findProgram,
  foreignNode,
  report,
  root,
  runCheck,
  runToFile,
  whyNoNode,
} from './foreign-node.mjs'

const LONG = ['golden', 'rpc', 'convert', 'quantised', 'pipeline-life', 'cancel']

const wine = () => findProgram('wine64', '/usr/lib/wine/wine64')

/** Why the check cannot run here; undefined if it can. */
function whyNotWindows() {
  if (!findProgram('x86_64-w64-mingw32-g++-posix')) return 'g++-mingw-w64-x86-64-posix is not installed'
  if (!wine()) return 'wine64 is not installed'
  return whyNoNode('win-x64')
}

async function main(options, files) {
  const addon = compileFor('win32-x64', options)
  const node = foreignNode('win-x64')
  const temporary = mkdtempSync(path.join(os.tmpdir(), 'ggflux-windows-'))
  const environment = {
    ...process.env,
    // folders with umlauts; otherwise wine takes the names of files for ASCII
    LC_ALL: 'C.UTF-8',
    WINEPREFIX: path.join(temporary, 'wine'),
    WINEDEBUG: '-all',
    NODE_SKIP_PLATFORM_CHECK: '1',
    // without these wine looks for parts that no test needs
    WINEDLLOVERRIDES: 'mscoree,mshtml=;winemenubuilder.exe=',
  }
  let count = 0
  const run = async (args, { program = node, env = {}, seconds = 300, status = 0 } = {}) => {
    const log = path.join(temporary, `output-${++count}.txt`)
    const options = { log, seconds, cwd: temporary, env: { ...environment, ...env } }
    const result = await runToFile(wine(), [program, ...args], options)
    assert.equal(result.status, status, `${args.join(' ')}\n${result.output}`)
    return result.output
  }

  // as it is installed, in a folder with spaces and umlauts
  const place = path.join(temporary, 'Größe 模型 mit Leerzeichen')
  for (const part of ['dist', 'models/tiny', 'package.json'])
    cpSync(path.join(root, part), path.join(place, part), { recursive: true })
  cpSync(addon, path.join(place, 'build', 'Release'), { recursive: true })
  symlinkSync(path.join(root, 'node_modules'), path.join(place, 'node_modules'))
  const program = path.join(place, 'dist', 'cli', 'main.js')

  // more than the 260 characters of a path that Windows takes without a prefix
  const deep = path.join(place, ...Array.from({ length: 6 }, (_, i) => `${i}`.padEnd(50, 'ö')))
  mkdirSync(deep, { recursive: true })
  writeFileSync(path.join(deep, 'numbers'), Buffer.from(Float32Array.of(0.5, -1, 2, 4).buffer))

  const checks = [
    ['wine starts Node.js', async () => assert.match(await run(['-p', 'process.platform']), /win32/)],
    [
      'devices, bad files, long paths, locks, a loaded model is not replaced, cancelling, closing',
      async () => {
        copyFileSync(new URL('windows-program.mjs', import.meta.url), path.join(place, 'program.mjs'))
        assert.match(await run([path.join(place, 'program.mjs'), deep]), /everything was as expected/)
      },
    ],
    [
      'the image of the tiny model is that of Linux',
      async () => {
        const env = { GGFLUX_KERNELS: 'avx2' }
        const image = (file) => PNG.sync.read(readFileSync(file)).data
        const args = ['generate', 'a red circle on a white background', '--seed', '1', '-o']
        await run([program, ...args, 'ein Bild ä.png'], { env })
        const here = path.join(temporary, 'linux.png')
        const linux = spawnSync(process.execPath, [path.join(root, 'dist', 'cli', 'main.js'), ...args, here], {
          env: { ...process.env, ...env },
          encoding: 'utf8',
        })
        assert.equal(linux.status, 0, linux.stderr)
        const [expected, found] = [image(here), image(path.join(temporary, 'ein Bild ä.png'))]
        const differences = [...expected].map((byte, i) => Math.abs(byte - found[i])).filter(Boolean)
        const said = `${differences.length} of ${expected.length} bytes differ, by ${Math.max(0, ...differences)} at most`
        console.log(`       ${said}`)
        // The last convolution of the decoder is ggml's, and its order of sums depends on the variant that is chosen.
        assert(differences.length <= expected.length / 1000 && differences.every((by) => by <= 1), said)
      },
    ],
    [
      'a program with another name than node.exe',
      async () => {
        const renamed = path.join(temporary, 'Mein Programm.exe')
        linkOrCopy(node, renamed)
        assert.match(await run([program, 'devices'], { program: renamed }), /CPU/)
      },
    ],
    [
      'a program that lacks a function of Node-API ends with a sentence',
      async () => {
        const bytes = readFileSync(node)
        const at = bytes.indexOf('\0napi_create_double\0')
        assert(at > 0)
        bytes.write('napi_create_doublf', at + 1)
        const lacking = path.join(temporary, 'lacking.exe')
        writeFileSync(lacking, bytes)
        const output = await run([program, 'devices'], { program: lacking, status: 1 })
        assert.match(
          output,
          /this program lacks functions of Node.js that ggflux needs: napi_create_double\. What to do/,
        )
      },
    ],
  ]
  const tests = [...(options.long ? LONG.map((name) => `test/native/${name}.test.ts`) : []), ...files]
  const compiled = tests.length > 0 && compileTests()
  for (const file of tests)
    checks.push([
      file,
      async () => {
        const shim = path.join(root, 'test', 'support', 'without-vitest', 'run.mjs')
        const output = await run([shim, compiled, file], { env: { GGFLUX_ADDON: addon }, seconds: 1800 })
        console.log(output.trim().split('\n').at(-1))
      },
    ])
  try {
    await report(checks)
  } finally {
    // otherwise wine's server still writes into the folder for some seconds
    spawnSync(findProgram('wineserver', '/usr/lib/wine/wineserver64', '/usr/lib/wine/wineserver'), ['-k'], {
      env: environment,
    })
    rmSync(temporary, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  }
}

function linkOrCopy(from, to) {
  try {
    linkSync(from, to)
  } catch {
    copyFileSync(from, to)
  }
}

await runCheck(whyNotWindows, main, { long: { type: 'boolean' } })
