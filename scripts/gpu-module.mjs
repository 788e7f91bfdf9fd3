// Takes a GPU module of ggml that others compiled, checks it against pinned hashes, and makes it need our base library:
//   node scripts/gpu-module.mjs vulkan [--target linux-x64] [--output build/Release/vulkan]
//
// node-llama-cpp publishes ggml's modules on npm, compiled from the same releases of llama.cpp. A module refers to ggml's base library by
// its file name. Ours has another name, so that another ggml in the process is never bound by mistake; that name is written into the module.
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { HERE } from './build.mjs'
import { fetchTarball, runAsProgram } from './ggml.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The names of ggml's base library: its own, and the one of this project (OUTPUT_NAME in native/ggml/ggml.cmake). */
export const BASE = {
  linux: ['libggml-base.so', 'libggflux-ggml-base.so'],
  win32: ['ggml-base.dll', 'ggflux-gb.dll'], // of the same length
}

/** The modules by target and backend. `sha256` is that of the file as it is in the tarball. */
export const gpuModules = {
  'linux-x64-vulkan': {
    package: '@node-llama-cpp/linux-x64-vulkan@3.22.1',
    integrity: 'sha512-bBxqU+JOcBu1nb5Qj2zcMci+JByT1E8EajHvYodyNfVIPkEhXh+/HMwR1/BT7xP08YK0hks+kM8fglER0P8JEg==',
    file: 'package/bins/linux-x64-vulkan/libggml-vulkan.so',
    sha256: '5dbbe80b520118b6b71f3ea31935ba107cee9c9c68f7e7ed18b20cdb424e819b',
    ggml: '0.25.1',
  },
  // The interface between modules and base library is the same in 0.23.0 and 0.25.1: the lists of types and operations,
  // the structs, and every function that the module imports.
  'win32-x64-vulkan': {
    package: '@node-llama-cpp/win-x64-vulkan@3.21.1',
    integrity: 'sha512-HJ237Azh5m4Sz+w3A1IU/fYLaSDOocskcfn2ILTgqTuuORCB86EMnu3Yt/XsNhRHTtEiwz1Q/E0mO4PLIbZLAA==',
    file: 'package/bins/win-x64-vulkan/ggml-vulkan.dll',
    sha256: '6058a8a6291780651547b133db5854e00c531deb903eecf8324571ab6a2ae309',
    ggml: '0.23.0',
  },
}

/**
 * Writes the module into the folder `output`, which may be relative to the project. Throws an Error that says what to do.
 * Returns its path, the licence that came with it, and where it is from.
 */
export function takeGpuModule(
  backend,
  {
    target = HERE,
    output = path.join('build', target === HERE ? 'Release' : target, backend),
    source = gpuModules[`${target}-${backend}`],
  } = {},
) {
  if (!source)
    throw new Error(
      `there is no module to take for '${target}-${backend}'. What to do: use one of these: ${Object.keys(gpuModules).join(', ')}` +
        `${backend === 'cuda' ? '; CUDA is compiled: npm run build:cuda' : ''}.`,
    )
  const folder = path.resolve(root, output)
  mkdirSync(path.join(root, 'build'), { recursive: true })
  const work = mkdtempSync(path.join(root, 'build', 'gpu-module-'))
  try {
    const name = path.posix.basename(source.file)
    const tarball = fetchTarball(
      work,
      source,
      `${name} for ${target}`,
      `copy the folder ${folder} from another clone of ggflux`,
    )
    const files = gunzipSync(readFileSync(tarball))
    const module = fileInTar(files, source.file)
    const found = createHash('sha256').update(module).digest('hex')
    if (found !== source.sha256)
      throw new Error(
        `ggflux refuses ${source.file} of ${source.package}: its SHA-256 is\n  ${found}\nand not the pinned\n  ${source.sha256}\n` +
          'What to do: correct the entry in scripts/gpu-module.mjs; the tarball itself has the pinned hash.',
      )
    const [from, to] = BASE[target.startsWith('win32') ? 'win32' : 'linux']
    if (target.startsWith('win32')) replaceName(module, from, to)
    else renameNeeded(module, from, to, '$ORIGIN/..')
    // under another name first: an interrupted run leaves no half module, and a process that has the old one mapped keeps it
    const part = path.join(work, name)
    writeFileSync(part, module)
    mkdirSync(folder, { recursive: true })
    renameSync(part, path.join(folder, name))
    const { package: from_, integrity, file, sha256, ggml } = source
    return {
      file: path.join(folder, name),
      license: fileInTar(files, 'package/LICENSE'),
      taken: { package: from_, integrity, file, sha256, ggml },
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** The bytes of one file in a tar archive as npm writes it: headers of 512 bytes, contents in whole blocks of 512. */
export function fileInTar(archive, name) {
  const text = (at, length) => archive.toString('latin1', at, at + length).replace(/\0.*/s, '')
  for (let at = 0; at < archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8)
    const prefix = text(at + 345, 155)
    if ((prefix ? `${prefix}/` : '') + text(at, 100) === name) return archive.subarray(at + 512, at + 512 + size)
    at += 512 + Math.ceil(size / 512) * 512
  }
  throw new Error(`the tarball does not contain ${name}. What to do: correct the entry in scripts/gpu-module.mjs.`)
}

/** Overwrites the only occurrence of a name by one of the same length. */
export function replaceName(file, from, to) {
  const at = file.indexOf(`\0${from}\0`, 0, 'latin1') + 1
  if (at === 0 || from.length !== to.length || file.includes(from, at + 1, 'latin1'))
    throw new Error(
      `${from} is not in the module exactly once, or ${to} has another length. What to do: take another module.`,
    )
  file.write(to, at, 'latin1')
}

const DT = { NEEDED: 1n, STRTAB: 5n, SYMTAB: 6n, STRSZ: 10n, SONAME: 14n, RPATH: 15n, RUNPATH: 29n }

/**
 * Changes the name of a needed library, and where the loader searches, in a 64-bit ELF file. Both new strings are
 * written in place of the old search path, so nothing moves. That path is of the machine that compiled the module; its
 * last entry is empty, which means the current folder of the process.
 */
export function renameNeeded(file, from, to, searchPath) {
  const impossible = (reason) =>
    new Error(`the needed library ${from} cannot be renamed: ${reason}. What to do: take another module.`)
  if (file.toString('latin1', 0, 6) !== '\x7fELF\x02\x01') throw impossible('it is no ELF file of 64 bits')
  const u64 = (at) => Number(file.readBigUInt64LE(at))
  const segments = Array.from({ length: file.readUInt16LE(56) }, (_, i) => {
    const at = u64(32) + i * file.readUInt16LE(54)
    return { type: file.readUInt32LE(at), offset: u64(at + 8), address: u64(at + 16), size: u64(at + 32) }
  })
  const offsetOf = (address) => {
    const segment = segments.find(
      (segment) => segment.type === 1 && address >= segment.address && address < segment.address + segment.size,
    )
    return segment.offset + address - segment.address
  }
  const dynamic = segments.find(({ type }) => type === 2)
  if (!dynamic) throw impossible('it has no dynamic section')
  const entries = []
  for (let at = dynamic.offset; file.readBigInt64LE(at) !== 0n; at += 16)
    entries.push({ tag: file.readBigInt64LE(at), at: at + 8, value: u64(at + 8) })
  const entry = (tag) => entries.find((entry) => entry.tag === tag)
  const strings = offsetOf(entry(DT.STRTAB).value)
  const stringAt = (value) => file.toString('latin1', strings + value, file.indexOf(0, strings + value))
  const needed = entries.find(({ tag, value }) => tag === DT.NEEDED && stringAt(value) === from)
  const path_ = entry(DT.RUNPATH) ?? entry(DT.RPATH)
  if (!needed || !path_) throw impossible('it is not needed, or there is no search path')
  const old = stringAt(path_.value)
  const text = `${to}\0${searchPath}\0`
  if (text.length > old.length + 1) throw impossible(`the search path '${old}' has no room for the new name`)
  // a linker may let a shorter string begin within a longer one
  const end = path_.value + old.length
  const symbols = offsetOf(entry(DT.SYMTAB).value)
  const names = [
    ...entries
      .filter(({ tag, at }) => [DT.NEEDED, DT.SONAME].includes(tag) && at !== path_.at)
      .map(({ value }) => value),
    // the table of symbols reaches to the strings, which the linker places behind it
    ...Array.from({ length: Math.floor((strings - symbols) / 24) }, (_, i) => file.readUInt32LE(symbols + i * 24)),
  ]
  if (strings < symbols || names.some((name) => name >= path_.value && name <= end && stringAt(name) !== ''))
    throw impossible('other names share the bytes of its search path')
  file.fill(0, strings + path_.value, strings + end)
  file.write(text, strings + path_.value, 'latin1')
  file.writeBigUInt64LE(BigInt(path_.value), needed.at)
  file.writeBigUInt64LE(BigInt(path_.value + to.length + 1), path_.at)
}

runAsProgram(import.meta.url, () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { target: { type: 'string' }, output: { type: 'string' } },
  })
  if (positionals.length !== 1)
    throw new Error('usage: node scripts/gpu-module.mjs vulkan [--target linux-x64] [--output build/Release/vulkan]')
  const { file, taken } = takeGpuModule(positionals[0], values)
  console.log(`${file} (of ggml ${taken.ggml}, from ${taken.package})`)
})
