// Evaluates one network and writes its output as raw F32:
//   compute.mjs decode|encode WEIGHTS OUT HEIGHT WIDTH, the autoencoder; compute.mjs states WEIGHTS OUT TOKENS, the T5 encoder
//   compute.mjs predict WEIGHTS OUT TOKENS TEXT [BIASED], the transformer; BIASED of the text tokens, the last, count a quarter
// with the precision that GGFLUX_TEST_PRECISION names
import { writeFileSync } from 'node:fs'
import { Autoencoder, FluxTransformer, T5Encoder } from '../../../dist/nn.js'

const [mode, weights, out, ...shape] = process.argv.slice(2)
const options = { threads: 2, precision: process.env.GGFLUX_TEST_PRECISION }
if (mode === 'states') {
  const t5 = await T5Encoder.load(weights, options)
  const tokens = Int32Array.from({ length: shape[0] }, (_, i) => (i * 37) % t5.config.vocabSize)
  writeFileSync(out, await t5.encode(tokens))
  console.log(t5.memory().weights)
} else if (mode === 'predict') {
  const flux = await FluxTransformer.load(weights, options)
  const [tokens, text, biased] = shape.map(Number)
  const wave = (length, k) => Float32Array.from({ length }, (_, i) => Math.sin(i * k) + Math.cos(i * 0.013))
  const imgIds = Float32Array.from(
    { length: 3 * tokens },
    (_, i) => [0, Math.floor(i / 3 / 5), Math.floor(i / 3) % 5][i % 3],
  )
  const { inChannels, contextInDim, vecInDim } = flux.config
  const input = {
    img: wave(tokens * inChannels, 0.7),
    imgIds,
    txt: wave(text * contextInDim, 0.37),
    txtIds: new Float32Array(3 * text),
    vec: wave(vecInDim, 0.9),
  }
  const textBias = biased ? [{ first: text - biased, count: biased, strength: 0.25 }] : []
  writeFileSync(out, await flux.predict({ ...input, timestep: 0.6, guidance: 3, textBias }))
} else {
  const vae = await Autoencoder.load(weights, options)
  const [height, width] = shape.map(Number)
  const channels = mode === 'decode' ? vae.config.zChannels : 3
  const input = Float32Array.from(
    { length: channels * height * width },
    (_, i) => Math.sin(i * 0.7) + Math.cos(i * 0.013),
  )
  const output = await vae[mode](input, height, width)
  writeFileSync(out, mode === 'decode' ? output : output.mean)
}
