import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { goldenErrors, goldenIo, goldenWeights } from '../support/golden.js'
import { relL2 } from '../support/safetensors.js'

// The package as users get it: prebuilt (with the one CPU variant of this machine), packed, installed without any script, and run.
const reason =
  process.platform !== 'linux'
    ? `its libraries are looked at with tools that ${process.platform} does not have`
    : ['python3', 'make'].some((program) => spawnSync(program, ['--version']).status !== 0)
      ? 'node-gyp needs python3 and make'
      : undefined
if (reason) console.log(`skipped: the installed package (${reason})`)

const checkout = fileURLToPath(new URL('../../', import.meta.url))
const temporary = mkdtempSync(path.join(os.tmpdir(), 'ggflux-package-'))
const copy = path.join(temporary, 'checkout')
const project = path.join(temporary, 'project')
const installed = path.join(project, 'node_modules', 'ggflux')
const libraries = ['ggflux.node', 'libggflux-ggml-base.so', 'libggflux-ggml.so', 'libggml-cpu.so', 'libggml-rpc.so']
const prebuilds = path.join(installed, 'prebuilds', `${process.platform}-${process.arch}`)
let packed: string[]

// What a user could write: CLIP's text encoder from a path, and which libraries the process then holds.
const program = `
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
const [, , weights, tokens, other] = process.argv
if (other) createRequire(import.meta.url)(other)
const { devices } = await import('ggflux')
const { ClipTextEncoder } = await import('ggflux/nn')
const clip = await ClipTextEncoder.load(weights)
const { pooled } = await clip.encode(Int32Array.from(JSON.parse(tokens)))
await clip.close()
const maps = readFileSync('/proc/self/maps', 'utf8').match(/\\/.*/g)
console.log(JSON.stringify({ node: process.versions.node, devices: devices(), pooled: [...pooled], maps: [...new Set(maps)] }))
`

function run(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv = {}) {
  const result = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  })
  if (result.error) throw result.error
  return result
}

function succeed(command: string, args: string[], cwd: string, env?: NodeJS.ProcessEnv): string {
  const { status, signal, stdout, stderr } = run(command, args, cwd, env)
  expect(status, `${command} ${args.join(' ')} (${signal})\n${stdout}\n${stderr}`).toBe(0)
  return stdout
}

async function evaluate(node = process.execPath, { other = '', env = {} } = {}) {
  const io = goldenIo('clip-tiny')
  const weights = await goldenWeights('clip-tiny')
  const tokens = JSON.stringify([...(io.get('a.in.ids')!.data as Int32Array)])
  const output = succeed(node, ['main.mjs', weights, tokens, other], project, env)
  const found = JSON.parse(output) as { node: string; devices: { kind: string }[]; pooled: number[]; maps: string[] }
  const error = relL2(Float32Array.from(found.pooled), io.get('a.out.pooled')!.data as Float32Array)
  expect(error).toBeLessThanOrEqual(goldenErrors()['clip-tiny.io.safetensors']!['a.out.pooled']!.suggested.rel_l2!)
  expect(found.devices.map(({ kind }) => kind)).toContain('cpu')
  return found
}

describe.skipIf(reason)('the installed package', () => {
  beforeAll(() => {
    mkdirSync(copy)
    mkdirSync(project)
    for (const { name } of readdirSync(checkout, { withFileTypes: true }).filter((entry) => entry.isFile())) {
      cpSync(path.join(checkout, name), path.join(copy, name))
    }
    for (const name of ['dist', 'ggml', 'native', 'scripts'])
      cpSync(path.join(checkout, name), path.join(copy, name), { recursive: true })
    symlinkSync(path.join(checkout, 'node_modules'), path.join(copy, 'node_modules'))
    const start = performance.now()
    succeed(process.execPath, ['scripts/prebuilds.mjs'], copy, { GGFLUX_CPU_VARIANTS: 'native' })
    console.log(`the prebuild took ${((performance.now() - start) / 1000).toFixed(0)} s`)

    const [tarball] = JSON.parse(
      succeed('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', temporary], copy),
    )
    packed = tarball.files.map((file: { path: string }) => file.path)
    console.log(
      `the tarball has ${(tarball.size / 1e6).toFixed(1)} MB, ${(tarball.unpackedSize / 1e6).toFixed(1)} MB unpacked, in ${packed.length} files`,
    )

    writeFileSync(path.join(project, 'package.json'), '{ "private": true }')
    writeFileSync(path.join(project, 'main.mjs'), program)
    succeed(
      'npm',
      [
        'install',
        '--ignore-scripts',
        '--prefer-offline',
        '--no-audit',
        '--no-fund',
        path.join(temporary, tarball.filename),
      ],
      project,
    )
  }, 900_000)

  afterAll(() => rmSync(temporary, { recursive: true, force: true }))

  test('holds the compiled library, the binaries and what a source build needs, and neither tests nor sources in TypeScript', () => {
    for (const file of [
      'dist/nn.js',
      'dist/nn.d.ts',
      'native/addon.cpp',
      'ggml/CMakeLists.txt',
      'ggml/LICENSE',
      'ggml/.ggflux-source',
      'binding.gyp',
      'LICENSE',
    ]) {
      expect(packed).toContain(file)
    }
    for (const library of libraries)
      expect(packed).toContain(`prebuilds/${process.platform}-${process.arch}/${library}`)
    const folders = new Set(packed.filter((file) => file.includes('/')).map((file) => file.split('/')[0]))
    expect([...folders].filter((folder) => folder !== 'docs').sort()).toEqual([
      'dist',
      'ggml',
      'native',
      'prebuilds',
      'scripts',
    ])
    expect(packed.filter((file) => /(?<!\.d)\.ts$|\.tgz$|\.log$/.test(file))).toEqual([])
    expect(existsSync(path.join(installed, 'build'))).toBe(false)
  })

  test('its libraries find each other beside themselves and need only what every Linux with Node has', () => {
    expect(readdirSync(prebuilds).sort()).toEqual(libraries)
    for (const library of libraries) {
      const dynamic = succeed('readelf', ['--dynamic', '--wide', library], prebuilds)
      const tags = (tag: RegExp) => [...dynamic.matchAll(tag)].map(([, value]) => value!)
      expect(tags(/\((?:RPATH|RUNPATH)\).*\[(.*)\]/g), library).toEqual(['$ORIGIN'])
      const needed = tags(/\(NEEDED\).*\[(.*)\]/g).filter((name) => !libraries.includes(name))
      expect(
        needed.filter((name) => !/^(lib(c|m|stdc\+\+|gcc_s)\.so\.\d+|ld-linux-[\w-]+\.so\.\d+)$/.test(name)),
        library,
      ).toEqual([])
      expect(
        readFileSync(path.join(prebuilds, library)).includes(copy),
        `${library} names the folder it was compiled in`,
      ).toBe(false)
    }
  })

  test('runs without any install script', async () => {
    const { maps } = await evaluate()
    expect(
      maps
        .filter((file) => libraries.includes(path.basename(file)))
        .map((file) => path.relative(prebuilds, file))
        .sort(),
    ).toEqual(libraries)
  })

  test.for(['22', '24'])('runs under Node %s', { timeout: 300_000 }, async (major, { skip }) => {
    const folder = path.join(checkout, 'node_modules', '.cache', 'ggflux', `node-${major}`)
    const name = `node-${process.platform}-${process.arch}`
    const node = path.join(folder, 'node_modules', name, 'bin', 'node')
    if (!existsSync(node)) {
      mkdirSync(folder, { recursive: true })
      const fetched = run(
        'npm',
        [
          'install',
          '--prefix',
          folder,
          '--no-save',
          '--ignore-scripts',
          '--prefer-offline',
          '--no-audit',
          '--no-fund',
          `${name}@${major}`,
        ],
        folder,
      )
      if (fetched.status !== 0) {
        const failure = `npm install ${name}@${major} failed: ${fetched.stderr.trim()}`
        console.log(`skipped: the package under Node ${major} (${failure})`)
        skip(failure)
      }
    }
    expect((await evaluate(node)).node.split('.')[0]).toBe(major)
  })

  test('never binds the libraries of another ggml in the process', async () => {
    // Names and functions as in a usual ggml; whoever calls one of them dies.
    const folder = path.join(temporary, 'other')
    mkdirSync(folder)
    const functions = [
      'ggml_init',
      'ggml_new_tensor',
      'ggml_backend_load_all_from_path',
      'ggml_backend_dev_count',
      'ggml_backend_cpu_reg',
      'ggml_backend_init',
    ]
    writeFileSync(
      path.join(folder, 'ggml.c'),
      `#include <stdlib.h>\n${functions.map((name) => `void ${name}(void) { abort(); }`).join('\n')}\n`,
    )
    writeFileSync(
      path.join(folder, 'addon.c'),
      'void ggml_init(void);\nvoid *napi_register_module_v1(void *env, void *exports) { return env ? exports : (void *)ggml_init; }\n',
    )
    const names = ['ggml-base', 'ggml', 'ggml-cpu']
    for (const name of names)
      succeed('cc', ['-shared', '-fPIC', `-Wl,-soname,lib${name}.so`, '-o', `lib${name}.so`, 'ggml.c'], folder)
    succeed(
      'cc',
      [
        '-shared',
        '-fPIC',
        '-Wl,--no-as-needed',
        '-Wl,-rpath,$ORIGIN',
        '-L.',
        ...names.map((name) => `-l${name}`),
        '-o',
        'other.node',
        'addon.c',
      ],
      folder,
    )

    const log = path.join(temporary, 'bindings')
    const { maps } = await evaluate(process.execPath, {
      other: path.join(folder, 'other.node'),
      env: { LD_DEBUG: 'bindings', LD_DEBUG_OUTPUT: log },
    })
    expect(maps).toContain(path.join(folder, 'libggml-base.so'))
    expect(maps).toContain(path.join(prebuilds, 'libggflux-ggml-base.so'))
    const bindings = readdirSync(temporary)
      .filter((name) => name.startsWith('bindings.'))
      .flatMap((name) => [
        ...readFileSync(path.join(temporary, name), 'utf8').matchAll(
          /binding file (\S+) \[\d+\] to (\S+) \[\d+\]: \w+ symbol `((?:ggml|gguf|quantize)_\w+)'/g,
        ),
      ])
      .filter(([, from]) => from!.startsWith(prebuilds))
    expect(bindings.length).toBeGreaterThan(50)
    expect(bindings.filter(([, , to]) => !to!.startsWith(prebuilds)).map(([line]) => line)).toEqual([])
  })

  // the last one, as the shipped binary is gone afterwards
  test('without a binary for the platform, the message tells a command that compiles one without a network', async () => {
    rmSync(path.join(installed, 'prebuilds'), { recursive: true })
    const source = `import { devices } from 'ggflux'
      try { devices() } catch ({ name, code, message }) { console.log(JSON.stringify({ name, code, message })) }`
    const error = JSON.parse(succeed(process.execPath, ['--input-type=module', '--eval', source], project))
    expect(error).toMatchObject({ name: 'FluxError', code: 'FLUX_NOT_FOUND' })
    expect(error.message).toContain(`${process.platform}-${process.arch}`)
    expect(error.message).toMatch(/What to do: .*npm rebuild ggflux/s)

    succeed('npm', ['rebuild', 'ggflux', '--ignore-scripts=false'], project, {
      npm_config_registry: 'http://127.0.0.1:9/',
    })
    const { maps } = await evaluate()
    expect(maps).toContain(path.join(installed, 'build', 'Release', 'ggflux.node'))
  }, 900_000)
})
