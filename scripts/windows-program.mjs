// Run by windows-check.mjs inside a copy of the package, under Node.js for Windows. Its argument is a folder with a long path.
import assert from 'node:assert/strict'
import { copyFileSync, openSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { FluxPipeline, devices } from './dist/index.js'
import { nativeAddon, nativeLockFile } from './dist/native/addon.js'
import { writeModelFile } from './dist/formats/write-model-file.js'

const [, , deep] = process.argv
const here = import.meta.dirname
const addon = nativeAddon()

// A number as an argument: the functions of Node.js that take one are called with it.
const [cpu] = await devices()
assert(cpu.memoryTotal > 2 ** 30 && cpu.memoryTotal < 2 ** 45, `the memory is ${cpu.memoryTotal} bytes`)

const read = (file) =>
  addon.convert([file], { name: 'x', type: 0, shape: [4], pieces: [{ file: 0, offset: 0, bytes: 16 }] }, 0)
const numbers = [0.5, -1, 2, 4]
for (const file of [path.join(deep, 'numbers'), path.join(deep, 'numbers').replaceAll('\\', '/')]) {
  const { buffer, byteOffset } = await read(file)
  assert.deepEqual([...new Float32Array(buffer, byteOffset, 4)], numbers, file)
}
await assert.rejects(read(here), /FLUX_BAD_FILE: .*folder/)
await assert.rejects(read(path.join(here, 'none')), /FLUX_NOT_FOUND: .*cannot be opened/)

writeFileSync('bad.gguf', 'no model')
const tiny = (name) => path.join(here, 'models', 'tiny', name)
const others = { t5: tiny('t5.gguf'), clip: tiny('clip.gguf'), vae: tiny('vae.safetensors') }
for (const transformer of ['bad.gguf', here])
  await assert.rejects(FluxPipeline.load({ transformer, ...others }), { code: 'FLUX_BAD_FILE' })

const [first, second] = [openSync('locked', 'a'), openSync('locked', 'a')]
assert.equal(nativeLockFile(first), true)
assert.equal(nativeLockFile(second), false)

const model = path.resolve('model.gguf')
copyFileSync(tiny('transformer.gguf'), model)
const pipe = await FluxPipeline.load({ transformer: model, ...others })
const picture = { prompt: 'a red circle', seed: 1 }
await pipe.generate(picture)
const tensor = { name: 'x', type: 'F32', shape: [4], data: new Uint8Array(16) }
await assert.rejects(writeModelFile(model, [tensor]), {
  code: 'FLUX_BAD_FILE',
  message: /model\.gguf cannot be replaced: a program has it open/,
})

const reason = new Error('enough')
const controller = new AbortController()
const work = pipe.generate({ ...picture, steps: 100, signal: controller.signal })
setTimeout(() => controller.abort(reason), 500)
const began = performance.now()
await assert.rejects(work, (error) => error === reason)
assert(performance.now() - began < 3000, 'an abort took too long')

await pipe.close()
await writeModelFile(model, [tensor])
console.log('everything was as expected')
