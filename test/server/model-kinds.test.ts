import { cpSync, mkdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import OpenAI, { toFile } from 'openai'
import { expect, test } from 'vitest'
import { encodeImage } from '../../lib/images/encode.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { ImagePipeline } from '../../lib/pipeline/pipeline.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { startServer } from '../support/server.js'
import { temporaryFolder } from '../support/temporary.js'
import { randomModel } from '../support/tiny.js'

// What OpenAI's routes do depends on what the model was trained for.

test('images.createVariation with a model that has Redux: as the pipeline does it', async () => {
  const folder = temporaryFolder()
  const files = {
    ...(await randomModel(folder)),
    redux: join(folder, 'redux.safetensors'),
    siglip: join(folder, 'siglip.safetensors'),
  }
  await synthesize({ architecture: 'redux-tiny', type: 'F32', seed: 5, path: files.redux })
  await synthesize({ architecture: 'siglip-tiny', type: 'F32', seed: 6, path: files.siglip })
  const image = await encodeImage(
    new Uint8Array(64 * 64 * 3).map((_, i) => (i * 11) % 256),
    64,
    64,
  )
  await using pipe = await ImagePipeline.load(files, { backend: 'cpu' })
  const size = { width: 64, height: 64, steps: 2, seed: 3 }
  const direct = await pipe.generate({ prompt: '', redux: [{ image }], ...size })
  expect(Buffer.compare(direct, await pipe.generate({ prompt: '', ...size }))).not.toBe(0)

  const server = await startServer({ model: folder })
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none' })
  const answer = await openai.images.createVariation({
    image: await toFile(image, 'a.png', { type: 'image/png' }),
    ...{ size: '64x64', steps: 2, seed: 3 },
  } as never)
  expect(Buffer.compare(Buffer.from(answer.data![0]!.b64_json!, 'base64'), direct)).toBe(0)
})

test('images.edit with a Kontext model: all images are references', async () => {
  const folder = join(temporaryFolder(), 'kontext')
  mkdirSync(folder)
  const { tokenizers, ...tiny } = tinyModelFiles()
  cpSync(tokenizers!.clip!, folder, {
    recursive: true,
    filter: (path) => !/(transformer|t5|clip)\.gguf$|vae|control/.test(path),
  })
  for (const [name, path] of Object.entries(tiny))
    cpSync(path, join(folder, name === 'transformer' ? 'flux1-kontext-tiny.gguf' : basename(path)))
  const images = [90, 200].map((grey) => encodeImage(new Uint8Array(64 * 64 * 3).fill(grey), 64, 64))
  const [first, second] = await Promise.all(images)
  await using pipe = await ImagePipeline.load(folder, { backend: 'cpu' })
  const options = { prompt: 'a red circle', width: 64, height: 64, steps: 2, seed: 3 }
  const direct = await pipe.generate({ ...options, referenceImages: [first!, second!] })

  const server = await startServer({ model: folder })
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none' })
  const answer = await openai.images.edit({
    image: await Promise.all([first!, second!].map((image, i) => toFile(image, `${i}.png`, { type: 'image/png' }))),
    ...{ prompt: options.prompt, size: '64x64', steps: 2, seed: 3 },
  } as never)
  expect(Buffer.compare(Buffer.from(answer.data![0]!.b64_json!, 'base64'), direct)).toBe(0)
})
