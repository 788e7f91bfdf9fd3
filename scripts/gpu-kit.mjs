// Packs what scripts/gpu-check.mjs needs on a machine that has neither Node.js nor npm, only an NVIDIA GPU with its driver and CUDA's libraries:
//   node scripts/build.mjs --cuda --architectures 90-real --cmake-folder build/cmake-cuda --output build/cuda
//   node scripts/gpu-kit.mjs [--addon build/cuda] [--out gpu-kit.tar.xz]
//   there: (with --checkout inside a checkout, which holds the tiny model and the golden data already) tar xJf gpu-kit.tar.xz && ./gpu-check
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compileGoldenReader } from './golden-reader.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values: options } = parseArgs({
  options: {
    addon: { type: 'string', default: 'build/cuda' },
    out: { type: 'string', default: 'gpu-kit.tar.xz' },
    node: { type: 'string', default: process.execPath },
    checkout: { type: 'boolean', default: false },
  },
})

const folder = mkdtempSync(path.join(os.tmpdir(), 'ggflux-kit-'))
try {
  const take = (from, to = from) =>
    cpSync(path.join(root, from), path.join(folder, to), { recursive: true, dereference: true })
  await compileGoldenReader(folder)
  // golden.ts looks for ../golden and ../../node_modules
  if (options.checkout) symlinkSync('../test/golden', path.join(folder, 'build/golden'))
  else take('test/golden', 'build/golden')
  take('scripts/gpu-check.mjs')
  take('package.json')
  take('dist')
  if (!options.checkout) take('models/tiny')
  rmSync(path.join(folder, 'models/tiny/train'), { recursive: true, force: true })
  for (const name of [
    'pngjs',
    '@huggingface/tokenizers',
    'commander',
    'cli-progress',
    'string-width',
    'strip-ansi',
    'ansi-regex',
    'emoji-regex',
    'is-fullwidth-code-point',
  ])
    take(`node_modules/${name}`)
  // the addon with its libraries, and the GPU's module in its folder
  for (const file of readdirSync(options.addon, { recursive: true }).filter((name) => /\.(node|so)$/.test(name))) {
    const target = path.join(folder, 'build/Release', file)
    mkdirSync(path.dirname(target), { recursive: true })
    cpSync(path.join(options.addon, file), target)
    execFileSync('strip', ['--strip-unneeded', target])
  }
  if (options.node !== 'none') {
    cpSync(options.node, path.join(folder, 'node'), { dereference: true })
    execFileSync('strip', [path.join(folder, 'node')])
  }
  writeFileSync(
    path.join(folder, 'gpu-check'),
    '#!/bin/sh\ncd "$(dirname "$0")" && exec ./node scripts/gpu-check.mjs "$@"\n',
  )
  chmodSync(path.join(folder, 'gpu-check'), 0o755)
  execFileSync('tar', ['-C', folder, '-cf', `${options.out}.tar`, '.'])
  execFileSync('xz', ['-4', '-T0', '--force', `${options.out}.tar`])
  execFileSync('mv', [`${options.out}.tar.xz`, options.out])
  console.log(`${options.out}: ${(statSync(options.out).size / 2 ** 20).toFixed(1)} MiB`)
} finally {
  rmSync(folder, { recursive: true })
}
