// What training on top of the shipped model needs of it: its transformer as F32 safetensors; embeddings of captions by its
// text encoders, work/captions.json -> work/captions.f32, for each caption T5's [32, 128] and CLIP's [128]; latents of
// pictures by its encoder, work/pictures.f32 [n, 3, 128, 128] -> work/latents.f32 [n, 16, 16, 16].
//
//   node embed.mjs
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Autoencoder, ClipTextEncoder, T5Encoder } from '../../../dist/nn.js'
import { ClipTokenizer, T5Tokenizer } from '../../../dist/index.js'

const here = dirname(fileURLToPath(import.meta.url))
const work = process.env.TINY_WORK ?? join(here, 'work')
const file = (name) => join(here, '..', name)

execFileSync(
  process.execPath,
  [
    join(here, '../../../dist/cli/main.js'),
    ...['convert', file('transformer.gguf'), '--type', 'f32', '-o', join(work, 'transformer.safetensors')],
  ],
  { stdio: 'inherit' },
)

const [t5Tokenizer, clipTokenizer, t5, clip] = await Promise.all([
  T5Tokenizer.load(file('t5.gguf')),
  ClipTokenizer.load(join(here, '..')),
  T5Encoder.load(file('t5.gguf'), { threads: 1 }),
  ClipTextEncoder.load(file('clip.gguf'), { threads: 1 }),
])
const out = openSync(join(work, 'captions.f32'), 'w')
for (const text of JSON.parse(readFileSync(join(work, 'captions.json'), 'utf8'))) {
  writeSync(out, new Uint8Array((await t5.encode(t5Tokenizer.encode(text, 32).ids)).buffer))
  const { ids, eos } = clipTokenizer.encode(text)
  writeSync(out, new Uint8Array((await clip.encode(ids, { eos })).pooled.buffer))
}
closeSync(out)
await Promise.all([t5.close(), clip.close()])

const vae = await Autoencoder.load(file('vae.safetensors'), { threads: 1 })
const { scaleFactor, shiftFactor } = vae.config
const SIDE = 128
const length = 3 * SIDE * SIDE
const pictures = new Float32Array(new Uint8Array(readFileSync(join(work, 'pictures.f32'))).buffer)
const latents = []
for (let first = 0; first < pictures.length; first += length) {
  const { mean } = await vae.encode(pictures.slice(first, first + length), SIDE, SIDE)
  latents.push(Buffer.from(mean.map((value) => scaleFactor * (value - shiftFactor)).buffer))
}
writeFileSync(join(work, 'latents.f32'), Buffer.concat(latents))
await vae.close()
