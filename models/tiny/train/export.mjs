// Packs what export.py wrote into the model's files: GGUF with the tokenizer and the defaults inside, safetensors for the autoencoder.
//
//   node export.mjs [type of the transformer] [folder]
import { copyFileSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { encodeValues } from '../../../dist/tools/synth/encode-values.js'
import { openModelFile } from '../../../dist/formats/open.js'
import { identify, networkOf } from '../../../dist/networks/network-file.js'
import { storedType } from '../../../dist/tools/quantisation-rules.js'
import { networkDefinition } from '../../../dist/networks/registry.js'
import { FILE_TYPES } from '../../../dist/tools/synth/gguf-metadata.js'
import { writeModelFile } from '../../../dist/formats/write-model-file.js'
import { nativeQuantize } from '../../../dist/native/addon.js'
import { readSentencePiece } from '../../../dist/tokenizers/sentencepiece.js'

const here = dirname(fileURLToPath(import.meta.url))
const work = process.env.TINY_WORK ?? join(here, 'work')
const [type = 'Q5_K', folder = join(here, '..')] = process.argv.slice(2)

const licence = { 'general.license': 'mit', 'general.quantization_version': 2 }
const METADATA = {
  transformer: () => ({
    'general.architecture': 'flux',
    'general.name': 'ggflux tiny',
    ...licence,
    'general.file_type': FILE_TYPES[type],
    'ggflux.width': 128,
    'ggflux.height': 128,
    'ggflux.steps': 8,
    'ggflux.guidance': 2,
    'ggflux.max_sequence_length': 32,
    'ggflux.latent_rgb': Float32Array.from(JSON.parse(readFileSync(join(work, 'export/latent-rgb.json'), 'utf8'))),
  }),
  t5: () => {
    const path = join(work, 'spiece.model')
    const { tokens, scores, types, characterMap } = readSentencePiece(readFileSync(path), path)
    return {
      'general.architecture': 't5encoder',
      'general.name': 'ggflux tiny T5',
      ...licence,
      'general.file_type': FILE_TYPES.Q8_0,
      'tokenizer.ggml.model': 't5',
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.scores': Float32Array.from(scores),
      'tokenizer.ggml.token_type': Int32Array.from(types),
      'tokenizer.ggml.precompiled_charsmap': characterMap,
      'tokenizer.ggml.padding_token_id': 0,
      'tokenizer.ggml.eos_token_id': 1,
      'tokenizer.ggml.unknown_token_id': 2,
      'tokenizer.ggml.add_space_prefix': true,
      'tokenizer.ggml.remove_extra_whitespaces': true,
    }
  },
  clip: () => ({
    'general.architecture': 'clip',
    'general.name': 'ggflux tiny CLIP',
    ...licence,
    'general.file_type': FILE_TYPES.Q8_0,
  }),
  vae: () => ({ format: 'pt', license: 'mit' }),
}

/**
 * Where the transformer differs from the rule: its ends stay above the rest, but BF16, as converters have it for 12 billion parameters,
 * would be a tenth of this file; modulation is a quarter of the weights and sees one vector.
 */
const OTHER = [
  [/^(img_in|txt_in|time_in|vector_in|guidance_in|final_layer)\..*weight$/, 'Q8_0'],
  [/mod(ulation)?\.lin\.weight$/, 'Q4_K'],
]

async function convert(name, suffix, type) {
  const source = await openModelFile(join(work, 'export', `${name}.safetensors`))
  const { kind } = identify(source)
  const { config } = networkOf(kind, source)
  const definition = networkDefinition(kind)
  const handle = await open(source.path)
  const tensors = []
  for (const tensor of definition.layout(config)) {
    const { offset, byteLength } = source.tensors.get(tensor.name)
    const bytes = Buffer.alloc(byteLength)
    await handle.read(bytes, 0, byteLength, offset)
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, byteLength / 4)
    const other = name === 'transformer' ? OTHER.find(([pattern]) => pattern.test(tensor.name))?.[1] : undefined
    const stored = suffix === 'gguf' ? (other ?? storedType(definition, tensor, type)) : type
    tensors.push({
      name: tensor.name,
      shape: tensor.shape,
      type: stored,
      data: await encodeValues(values, stored, tensor.shape.at(-1), nativeQuantize),
    })
  }
  await handle.close()
  const path = join(folder, `${name}.${suffix}`)
  await writeModelFile(path, tensors, METADATA[name]())
  console.log(`${path}: ${statSync(path).size} bytes`)
}

mkdirSync(folder, { recursive: true })
await convert('transformer', 'gguf', type)
await convert('t5', 'gguf', 'Q8_0')
await convert('clip', 'gguf', 'Q8_0')
await convert('vae', 'safetensors', 'F16')
for (const name of ['vocab.json', 'merges.txt']) copyFileSync(join(work, name), join(folder, name))
