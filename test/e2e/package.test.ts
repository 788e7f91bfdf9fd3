import { spawn, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { createPackageWithOptions, extractAll } from '@electron/asar'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { goldenErrors, goldenIo, goldenWeights } from '../support/golden.js'
import { relL2 } from '../support/safetensors.js'

// The packages as users get them: packed (with the one CPU variant of this machine), installed without any script and without compilers, and run.
const reason =
  process.platform !== 'linux'
    ? `its libraries are examined with tools that ${process.platform} does not have`
    : undefined
if (reason) console.log(`skipped: the installed packages (${reason})`)

const platform = `${process.platform}-${process.arch}`
const checkout = fileURLToPath(new URL('../../', import.meta.url))
const { version } = JSON.parse(readFileSync(path.join(checkout, 'package.json'), 'utf8')) as { version: string }
const temporary = mkdtempSync(path.join(os.tmpdir(), 'ggflux-package-'))
const project = path.join(temporary, 'project')
const modules = path.join(project, 'node_modules')
const installed = path.join(modules, 'ggflux')
const binaries = path.join(modules, '@ggflux', platform)
const libraries = ['ggflux.node', 'libggflux-ggml-base.so', 'libggflux-ggml.so', 'libggml-cpu.so', 'libggml-rpc.so']

interface Packed {
  name: string
  file: string
  size: number
  unpackedSize: number
  contains: string | string[]
}
let packed: Packed[]

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
console.log(JSON.stringify({ node: process.versions.node, devices: await devices(), pooled: [...pooled], maps: [...new Set(maps)] }))
`

function run(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv = {}) {
  // without the npm that runs these tests, so that the npm of PATH is used
  const { npm_execpath, ...inherited } = process.env
  const result = spawnSync(command, args, { cwd, env: { ...inherited, ...env }, encoding: 'utf8', maxBuffer: 2 ** 28 })
  if (result.error) throw result.error
  return result
}

function succeed(command: string, args: string[], cwd: string, env?: NodeJS.ProcessEnv): string {
  const { status, signal, stdout, stderr } = run(command, args, cwd, env)
  expect(status, `${command} ${args.join(' ')} (${signal})\n${stdout}\n${stderr}`).toBe(0)
  return stdout
}

/** A PATH with node and npm, and neither a compiler nor what builds with one. */
const bare = path.join(temporary, 'bin')

async function evaluate(
  node = process.execPath,
  { args = ['main.mjs'], other = '', cwd = project, env = { PATH: bare } as NodeJS.ProcessEnv } = {},
) {
  const io = goldenIo('clip-tiny')
  const weights = await goldenWeights('clip-tiny')
  const tokens = JSON.stringify([...(io.get('a.in.ids')!.data as Int32Array)])
  const output = succeed(node, [...args, weights, tokens, other], cwd, env)
  const found = JSON.parse(output) as { node: string; devices: { kind: string }[]; pooled: number[]; maps: string[] }
  const error = relL2(Float32Array.from(found.pooled), io.get('a.out.pooled')!.data as Float32Array)
  expect(error).toBeLessThanOrEqual(goldenErrors()['clip-tiny.io.safetensors']!['a.out.pooled']!.suggested.rel_l2!)
  expect(found.devices.map(({ kind }) => kind)).toContain('cpu')
  return found
}

/** Which of our libraries a process has mapped, and from where. */
const mapped = (maps: string[], folder: string) =>
  maps
    .filter((file) => libraries.includes(path.basename(file)))
    .map((file) => path.relative(folder, file))
    .sort()

/** What a program of one line fails with. */
function failure(...options: string[]): { name: string; code: string; message: string } {
  const source = `import { devices } from 'ggflux'
    try { await devices() } catch ({ name, code, message }) { console.log(JSON.stringify({ name, code, message })) }`
  return JSON.parse(
    succeed(process.execPath, [...options, '--input-type=module', '--eval', source], project, { PATH: bare }),
  )
}

describe.skipIf(reason)('the installed packages', () => {
  beforeAll(() => {
    mkdirSync(project)
    mkdirSync(bare)
    for (const name of ['node', 'npm', 'sh']) {
      const file = succeed('sh', ['-c', `readlink -f "$(command -v ${name})"`], temporary).trim()
      symlinkSync(file, path.join(bare, name))
    }
    const out = path.join(temporary, 'packages')
    const start = performance.now()
    succeed(
      process.execPath,
      ['scripts/packages.mjs', '--only', `ggflux,${platform}`, '--variants', 'native', '--out', out],
      checkout,
    )
    console.log(`packing took ${((performance.now() - start) / 1000).toFixed(0)} s`)
    packed = JSON.parse(readFileSync(path.join(out, 'manifest.json'), 'utf8')).packages
    for (const { name, size, unpackedSize } of packed)
      console.log(`${name} has ${(size / 1e6).toFixed(1)} MB, ${(unpackedSize / 1e6).toFixed(1)} MB unpacked`)

    writeFileSync(path.join(project, 'package.json'), '{ "private": true }')
    writeFileSync(path.join(project, 'main.mjs'), program)
    const options = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--fetch-retries=0']
    const tarballs = packed.map(({ file }) => path.join(out, file))
    succeed('npm', ['install', ...options, ...tarballs], project, { PATH: bare })
  }, 900_000)

  afterAll(() => rmSync(temporary, { recursive: true, force: true }))

  test('serve: the page and an image, with nothing but the packages', async () => {
    const args = [path.join(installed, 'dist/cli/main.js'), 'serve', '--port', '0', '--backend', 'cpu']
    const server = spawn(process.execPath, args, {
      cwd: project,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: bare },
    })
    try {
      let url = ''
      for await (const line of createInterface(server.stderr)) {
        url = /http:\/\/[\d.]+:\d+/.exec(line)?.[0] ?? ''
        if (url) break
      }
      const page = await (await fetch(url)).text()
      for (const [, file] of page.matchAll(/(?:src|href)="([^"]+)"/g))
        expect((await fetch(new URL(file!, url))).status, file).toBe(200)
      const response = await fetch(`${url}/v1/images/generations`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ prompt: 'a red circle', size: '64x64', steps: 1 }),
      })
      expect(((await response.json()) as { data: { b64_json: string }[] }).data[0]!.b64_json).toMatch(/^iVBOR/)
    } finally {
      server.kill('SIGKILL')
    }
  })

  test('ggflux holds what runs and what a source build needs, and no sources in TypeScript; the binaries are in the package of the platform', () => {
    for (const file of [
      'dist/nn.js',
      'dist/nn.d.ts',
      'native/addon.cpp',
      'native/ggml/ggml.cmake',
      'scripts/build.mjs',
      'scripts/ggml.mjs',
      'models/tiny/transformer.gguf',
      'CMakeLists.txt',
      'LICENSE',
    ])
      expect(existsSync(path.join(installed, file)), file).toBe(true)
    const files = (readdirSync(installed, { recursive: true }) as string[]).filter(
      (file) => !file.startsWith('node_modules'),
    )
    expect([...new Set(files.filter((file) => file.includes('/')).map((file) => file.split('/')[0]))].sort()).toEqual([
      'dist',
      'docs',
      'models',
      'native',
      'scripts',
    ])
    expect(files.filter((file) => /(?<!\.d)\.ts$|\.(tgz|log|node|so)$/.test(file))).toEqual([])
    expect(readdirSync(binaries)).toEqual(expect.arrayContaining(['LICENSE', 'LICENSE-ggml', 'README.md']))
    expect(readdirSync(binaries).filter((file) => /\.(node|so)$/.test(file))).toEqual(libraries)
  })

  test('no package has an install script, and none is a build tool', () => {
    const { packages } = JSON.parse(readFileSync(path.join(project, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { hasInstallScript?: true }>
    }
    expect(Object.keys(packages).filter((name) => packages[name]!.hasInstallScript)).toEqual([])
    const manifest = (folder: string) => JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'))
    for (const folder of [installed, binaries]) expect(manifest(folder)).not.toHaveProperty('scripts')
    expect(manifest(binaries)).toMatchObject({ version, os: ['linux'], cpu: [process.arch], libc: ['glibc'] })
    expect(new Set(Object.values(manifest(installed).optionalDependencies))).toEqual(new Set([version]))
    const names = succeed('npm', ['ls', '--omit=dev', '--all', '--parseable'], project)
      .trim()
      .split('\n')
      .map((folder) => path.relative(modules, folder))
      .filter((name) => name !== '..')
    console.log(`installed: ${names.sort().join(', ')}`)
    expect(names.filter((name) => /gyp|cmake|prebuil|node-addon-api|node-api-headers/.test(name))).toEqual([])
  })

  test('its libraries find each other next to themselves and need only what every Linux with Node has', () => {
    for (const library of libraries) {
      const dynamic = succeed('readelf', ['--dynamic', '--wide', library], binaries)
      const tags = (tag: RegExp) => [...dynamic.matchAll(tag)].map(([, value]) => value!)
      expect(tags(/\((?:RPATH|RUNPATH)\).*\[(.*)\]/g), library).toEqual(['$ORIGIN'])
      const needed = tags(/\(NEEDED\).*\[(.*)\]/g).filter((name) => !libraries.includes(name))
      expect(
        needed.filter((name) => !/^(lib(c|m|stdc\+\+|gcc_s)\.so\.\d+|ld-linux-[\w-]+\.so\.\d+)$/.test(name)),
        library,
      ).toEqual([])
      expect(
        readFileSync(path.join(binaries, library)).includes(checkout),
        `${library} names the folder it was compiled in`,
      ).toBe(false)
    }
  })

  test('runs without any install script', async () => {
    expect(mapped((await evaluate()).maps, binaries)).toEqual(libraries)
  })

  test.for(['22', '24'])('runs under Node %s', { timeout: 300_000 }, async (major, { skip }) => {
    const folder = path.join(checkout, 'node_modules', '.cache', 'ggflux', `node-${major}`)
    const name = `node-${platform}`
    const node = path.join(folder, 'node_modules', name, 'bin', 'node')
    if (!existsSync(node)) {
      mkdirSync(folder, { recursive: true })
      const options = ['--no-save', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund']
      const fetched = run('npm', ['install', '--prefix', folder, ...options, `${name}@${major}`], folder)
      if (fetched.status !== 0) {
        const failure = `npm install ${name}@${major} failed: ${fetched.stderr.trim()}`
        console.log(`skipped: the package under Node ${major} (${failure})`)
        skip(failure)
      }
    }
    expect((await evaluate(node)).node.split('.')[0]).toBe(major)
  })

  test('never binds the libraries of another ggml in the process', async () => {
    // Names and functions as in a usual ggml; a caller of one of them dies.
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
    const link = ['-shared', '-fPIC', '-Wl,--no-as-needed', '-Wl,-rpath,$ORIGIN', '-L.']
    succeed('cc', [...link, ...names.map((name) => `-l${name}`), '-o', 'other.node', 'addon.c'], folder)

    const log = path.join(temporary, 'bindings')
    const { maps } = await evaluate(process.execPath, {
      other: path.join(folder, 'other.node'),
      env: { LD_DEBUG: 'bindings', LD_DEBUG_OUTPUT: log },
    })
    expect(maps).toContain(path.join(folder, 'libggml-base.so'))
    expect(maps).toContain(path.join(binaries, 'libggflux-ggml-base.so'))
    const bindings = readdirSync(temporary)
      .filter((name) => name.startsWith('bindings.'))
      .flatMap((name) => [
        ...readFileSync(path.join(temporary, name), 'utf8').matchAll(
          /binding file (\S+) \[\d+\] to (\S+) \[\d+\]: \w+ symbol `((?:ggml|gguf|quantize)_\w+)'/g,
        ),
      ])
      .filter(([, from]) => from!.startsWith(binaries))
    expect(bindings.length).toBeGreaterThan(50)
    expect(bindings.filter(([, , to]) => !to!.startsWith(binaries)).map(([line]) => line)).toEqual([])
  })

  // A real archive, read by a Node that behaves as Electron's does: files in the archive can be read, and the addon is loaded from its copy
  // outside. What the system's loader and the native side open themselves is not redirected, so the archive holds empty binaries and models.
  test('runs from the archive of an Electron app, with the setting of the documentation', async () => {
    const unpack = /asar: \{ unpack: '(.*)' \}/.exec(
      readFileSync(path.join(checkout, 'docs', 'electron.md'), 'utf8'),
    )![1]!
    const source = path.join(temporary, 'app')
    cpSync(project, source, { recursive: true })
    const archive = path.join(temporary, 'resources', 'app.asar')
    await createPackageWithOptions(source, archive, { unpack })
    const unpacked = readdirSync(`${archive}.unpacked`, { recursive: true }) as string[]
    for (const file of [...libraries.map((name) => `@ggflux/${platform}/${name}`), 'ggflux/models/tiny/t5.gguf'])
      expect(unpacked).toContain(path.join('node_modules', file))

    const readable = path.join(temporary, 'readable')
    extractAll(archive, readable)
    rmSync(archive)
    renameSync(readable, archive)
    for (const file of readdirSync(archive, { recursive: true }) as string[])
      if (/\.(node|so|gguf)$/.test(file)) truncateSync(path.join(archive, file))
    const electron = path.join(temporary, 'electron.cjs')
    writeFileSync(
      electron,
      `const { dlopen } = process
       process.dlopen = (module, file, ...rest) => dlopen(module, file.replace('app.asar/', 'app.asar.unpacked/'), ...rest)`,
    )
    const { maps } = await evaluate(process.execPath, { args: ['--require', electron, 'main.mjs'], cwd: archive })
    expect(mapped(maps, path.join(`${archive}.unpacked`, 'node_modules', '@ggflux', platform))).toEqual(libraries)
    const draw = `import { FluxPipeline } from 'ggflux'
      const pipe = await FluxPipeline.load('tiny')
      const image = await pipe.generate({ prompt: 'a red circle', width: 64, height: 64, steps: 1 })
      await pipe.close()
      console.log(image.subarray(1, 4).toString())`
    const drawn = succeed(process.execPath, ['--require', electron, '--input-type=module', '--eval', draw], archive)
    expect(drawn.trim()).toBe('PNG')
  })

  describe('error messages', () => {
    const aside = `${binaries}-aside`
    afterEach(() => {
      if (!existsSync(aside)) return
      rmSync(binaries, { recursive: true, force: true })
      renameSync(aside, binaries)
    })

    test('without the package of the platform, one sentence and a command', () => {
      renameSync(binaries, aside)
      const error = failure()
      expect(error).toMatchObject({ name: 'FluxError', code: 'FLUX_NOT_FOUND' })
      expect(error.message).toBe(
        `the package @ggflux/${platform} is missing; npm leaves it out with --omit=optional, or when node_modules was made on another platform. ` +
          `Run: npm install @ggflux/${platform}@${version}`,
      )
    })

    test('with the package of another version, both versions and a command', () => {
      renameSync(binaries, aside)
      mkdirSync(binaries)
      writeFileSync(path.join(binaries, 'package.json'), JSON.stringify({ version: '0.0.9' }))
      expect(failure().message).toBe(
        `@ggflux/${platform} is version 0.0.9 and ggflux is version ${version}; run: npm install ggflux@${version} @ggflux/${platform}@${version}`,
      )
    })

    test('on a system with musl, what it lacks and where ggflux runs', () => {
      renameSync(binaries, aside)
      const musl = path.join(temporary, 'musl.cjs')
      writeFileSync(musl, 'process.report.getReport = () => ({ header: {} })')
      expect(failure('--require', musl).message).toMatch(
        /^the prebuilt ggflux for Linux needs glibc, which this system \(musl, such as Alpine\) does not have; .*: npx ggflux setup --from-source$/,
      )
    })

    test('with a library that was cut off, which one, and what to do', () => {
      cpSync(binaries, aside, { recursive: true })
      truncateSync(path.join(binaries, 'libggflux-ggml-base.so'), 100)
      expect(failure().message).toMatch(
        /^@ggflux\/.* is incomplete: libggflux-ggml-base\.so has 100 of \d+ bytes; install it again: npm install --force @ggflux/,
      )
    })
  })

  describe('ggflux setup', () => {
    const cli = path.join(installed, 'dist', 'cli', 'main.js')
    const calls = path.join(temporary, 'calls')
    const gpu = `${binaries}-cuda`
    let env: NodeJS.ProcessEnv

    beforeAll(() => {
      const folder = path.join(temporary, 'fake')
      mkdirSync(folder)
      const npm = `#!/bin/sh
        echo "$PWD $*" >> ${calls}
        case "$1 $PUBLISHED" in
          view*) test "$PUBLISHED" != no && echo 43259270 ;;
          "install yes") /bin/cp -r ${binaries} ${gpu} ;;
        esac`
      writeFileSync(path.join(folder, 'npm'), npm, { mode: 0o755 })
      writeFileSync(path.join(folder, 'libvulkan.so.1'), '')
      writeFileSync(path.join(folder, 'nvidia-smi'), '#!/bin/sh\necho "$DRIVER"\n', { mode: 0o755 })
      env = { PATH: `${folder}:${bare}`, LD_LIBRARY_PATH: folder }
    })
    afterEach(() => {
      for (const file of [calls, gpu]) rmSync(file, { recursive: true, force: true })
    })

    test('says which command it would run, and how large the package is', () => {
      const out = succeed(process.execPath, [cli, 'setup', 'vulkan', '--dry-run'], project, env)
      expect(out).toContain(
        `npm install --save-optional --save-exact @ggflux/${platform}-vulkan@${version}    (43.3 MB unpacked, in ${project})`,
      )
      expect(readFileSync(calls, 'utf8').trim().split('\n')).toHaveLength(1)
    })

    test('installs the package with CUDA where a new driver answers', () => {
      const choice = existsSync('/dev/dri') ? ['setup'] : ['setup', 'cuda']
      const out = succeed(process.execPath, [cli, ...choice], project, {
        ...env,
        DRIVER: '580.65.06',
        PUBLISHED: 'yes',
      })
      expect(out).toContain('driver 580.65.06')
      expect(out).toContain('libcublas.so.13')
      expect(readFileSync(calls, 'utf8')).toContain(
        `${project} install --save-optional --save-exact @ggflux/${platform}-cuda@${version}\n`,
      )
    })

    test('fails where npm silently leaves the optional package out', () => {
      const { status, stderr } = run(process.execPath, [cli, 'setup', 'vulkan'], project, env)
      expect([status, stderr]).toEqual([
        1,
        `ggflux: npm did not install @ggflux/${platform}-vulkan@${version} in ${project}; the reason is printed above, if npm gave one\n`,
      ])
    })

    // npm would note it under another name in package.json
    test('does not run npm install for a package that npm does not find', () => {
      const { status, stderr } = run(process.execPath, [cli, 'setup', 'vulkan'], project, { ...env, PUBLISHED: 'no' })
      expect([status, stderr]).toEqual([
        1,
        `ggflux: npm does not find @ggflux/${platform}-vulkan@${version}; check the network and the registry: npm view @ggflux/${platform}-vulkan@${version}\n`,
      ])
      expect(readFileSync(calls, 'utf8')).not.toMatch(/ install /)
    })

    test('refuses in one sentence what cannot work, with exit code 1', () => {
      const refused = run(process.execPath, [cli, 'setup', 'cuda'], project, { ...env, DRIVER: '550.54.14' })
      expect(refused.status).toBe(1)
      expect(refused.stderr).toBe(
        'ggflux: the NVIDIA driver is version 550.54.14 and CUDA 13 needs 580 or newer; update the driver, or use npx ggflux setup vulkan\n',
      )
      const both = run(process.execPath, [cli, 'setup', '--cuda'], project, env)
      expect([both.status, both.stderr]).toEqual([2, expect.stringContaining('--cuda needs --from-source')])
    })

    test('does nothing where the package is installed', () => {
      expect(succeed(process.execPath, [cli, 'setup', 'cpu'], project, env)).toContain('is installed already')
      expect(existsSync(calls)).toBe(false)
    })

    test('names the command of another package manager', () => {
      const lock = path.join(project, 'pnpm-lock.yaml')
      writeFileSync(lock, '')
      const { stderr } = run(process.execPath, [cli, 'setup', 'vulkan'], project, env)
      rmSync(lock)
      expect(stderr).toContain(`run there: pnpm add --save-optional --save-exact @ggflux/${platform}-vulkan@${version}`)
    })

    // the last one, as the compiled addon is used from then on
    test("compiles from the sources in the package and in npm's cache, without a network", async () => {
      const without = run(process.execPath, [cli, 'setup', '--from-source'], project, { PATH: bare })
      expect(without.status).toBe(1)
      expect(without.stderr).toMatch(/needs `cmake` to be compiled\. What to do: install CMake/)

      const headers = ['node-addon-api@8.9.2', 'node-api-headers@1.9.0']
      succeed('npm', ['pack', '--prefer-offline', '--pack-destination', temporary, ...headers], temporary)
      succeed(process.execPath, [cli, 'setup', '--from-source'], project, { npm_config_offline: 'true' })
      rmSync(binaries, { recursive: true })
      const release = path.join(installed, 'build', 'Release')
      expect(mapped((await evaluate()).maps, release)).toEqual(libraries)
    }, 900_000)
  })
})
