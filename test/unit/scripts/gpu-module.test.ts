import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { GPU_PACKAGES } from '../../../lib/native/locate.js'
import { temporaryFolder } from '../../support/temporary.js'

// scripts/gpu-module.mjs takes modules that others compiled. Here a library of a few bytes and a package made of it stand in for them.
interface Source {
  package: string
  integrity: string
  file: string
  sha256: string
  ggml: string
}
const script = new URL('../../../scripts/gpu-module.mjs', import.meta.url).href
const { BASE, gpuModules, renameNeeded, replaceName, takeGpuModule } = (await import(script)) as {
  BASE: Record<'linux' | 'win32', [string, string]>
  gpuModules: Record<string, Source>
  renameNeeded(file: Buffer, from: string, to: string, searchPath: string): void
  replaceName(file: Buffer, from: string, to: string): void
  takeGpuModule(
    backend: string,
    options: { target: string; output: string; source?: Source },
  ): { file: string; license: Buffer; taken: Source }
}
const folder = temporaryFolder()
const noCompiler = spawnSync('cc', ['--version']).status !== 0 || process.platform !== 'linux'

/** A library that needs `libggml-base.so` and searches in `searchPath`. */
function library(name: string, searchPath: string): Buffer {
  const cc = (...args: string[]) => expect(spawnSync('cc', args, { cwd: folder }).status).toBe(0)
  writeFileSync(path.join(folder, 'base.c'), 'int base(void) { return 42; }')
  writeFileSync(path.join(folder, 'module.c'), 'int base(void); int module(void) { return base(); }')
  cc('-shared', '-fPIC', '-Wl,-soname,libggml-base.so', '-o', 'libggml-base.so', 'base.c')
  cc('-shared', '-fPIC', `-Wl,-rpath,${searchPath}`, '-L.', '-o', name, 'module.c', '-lggml-base')
  return readFileSync(path.join(folder, name))
}

describe.skipIf(noCompiler)('the needed library of an ELF file', () => {
  it('is renamed, and is found in the new search path', () => {
    const file = library('module.so', '$ORIGIN:/opt/vulkan-sdk/x86_64/lib:')
    const length = file.length
    renameNeeded(file, ...BASE.linux, '$ORIGIN/..')
    expect(file).toHaveLength(length)
    mkdirSync(path.join(folder, 'vulkan'))
    writeFileSync(path.join(folder, 'vulkan', 'module.so'), file)
    spawnSync('cc', ['-shared', '-fPIC', '-o', BASE.linux[1], 'base.c'], { cwd: folder })
    writeFileSync(
      path.join(folder, 'main.c'),
      `#include <dlfcn.h>
       int main(void) { void *m = dlopen("./vulkan/module.so", RTLD_NOW); return m ? ((int (*)(void))dlsym(m, "module"))() : 1; }`,
    )
    expect(spawnSync('cc', ['-o', 'main', 'main.c', '-ldl'], { cwd: folder }).status).toBe(0)
    expect(spawnSync('./main', { cwd: folder }).status).toBe(42)
  })

  it('is not renamed where there is no room, or nothing to rename', () => {
    const short = library('short.so', '$ORIGIN')
    expect(() => renameNeeded(short, ...BASE.linux, '$ORIGIN/..')).toThrow(/no room/)
    expect(() => renameNeeded(short, 'libother.so', 'libnew.so', '.')).toThrow(/it is not needed/)
    expect(() => renameNeeded(Buffer.from('MZ'), ...BASE.linux, '.')).toThrow(/no ELF file/)
  })
})

describe('a name of the same length', () => {
  it('is overwritten where it is there once', () => {
    const file = Buffer.from('x\0ggml-base.dll\0y')
    replaceName(file, ...BASE.win32)
    expect(file.toString()).toBe('x\0ggflux-gb.dll\0y')
    expect(() => replaceName(file, ...BASE.win32)).toThrow(/not in the module exactly once/)
    expect(() => replaceName(Buffer.from('\0ggml-base.dll\0\0ggml-base.dll\0'), ...BASE.win32)).toThrow(/exactly once/)
  })
})

describe('a module', () => {
  let source: Source

  beforeAll(() => {
    const content = Buffer.from('MZ\0ggml-base.dll\0')
    const stand = path.join(folder, 'stand-in')
    mkdirSync(path.join(stand, 'bins'), { recursive: true })
    writeFileSync(path.join(stand, 'package.json'), JSON.stringify({ name: 'stand-in', version: '1.0.0' }))
    writeFileSync(path.join(stand, 'LICENSE'), 'a licence\n')
    writeFileSync(path.join(stand, 'bins', 'ggml-vulkan.dll'), content)
    expect(spawnSync('npm', ['pack', stand], { cwd: folder, shell: process.platform === 'win32' }).status).toBe(0)
    source = {
      package: stand,
      integrity: `sha512-${createHash('sha512')
        .update(readFileSync(path.join(folder, 'stand-in-1.0.0.tgz')))
        .digest('base64')}`,
      file: 'package/bins/ggml-vulkan.dll',
      sha256: createHash('sha256').update(content).digest('hex'),
      ggml: '0.0.0',
    }
  })

  it('is written with its new name and its licence, and nothing else is', () => {
    const output = path.join(folder, 'taken')
    const { file, license, taken } = takeGpuModule('vulkan', { target: 'win32-x64', output, source })
    expect(readFileSync(file, 'latin1')).toBe('MZ\0ggflux-gb.dll\0')
    expect(readdirSync(output)).toEqual(['ggml-vulkan.dll'])
    expect(license.toString()).toBe('a licence\n')
    expect(taken).toEqual(source)
  })

  it.each<[string, Partial<Source>, RegExp]>([
    [
      'a tarball with another hash',
      { integrity: 'sha512-AAAA' },
      /and not the pinned\s+sha512-AAAA\nWhat to do: a proxy or mirror/,
    ],
    ['a file with another hash', { sha256: '00' }, /its SHA-256 is.*and not the pinned\s+00\nWhat to do/s],
    ['a tarball without the file', { file: 'package/other' }, /does not contain package\/other\. What to do/],
    [
      'a package that does not exist',
      { package: './missing' },
      /could not fetch ggml-vulkan\.dll for win32-x64.*What to do: check the network/s,
    ],
  ])('is refused: %s', (_, changes, message) => {
    const output = path.join(folder, 'refused')
    expect(() => takeGpuModule('vulkan', { target: 'win32-x64', output, source: { ...source, ...changes } })).toThrow(
      message,
    )
    expect(existsSync(output)).toBe(false)
  })

  it('that nobody publishes is refused with a list of those that are', () => {
    expect(() => takeGpuModule('vulkan', { target: 'linux-arm64', output: folder })).toThrow(
      /use one of these: linux-x64-vulkan/,
    )
  })
})

it('every module that is taken has a package that `ggflux setup` knows', () => {
  expect(GPU_PACKAGES).toEqual(expect.arrayContaining(Object.keys(gpuModules)))
})
