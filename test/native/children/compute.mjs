// Evaluates one network for each message { mode, weights, precision, shape } and answers { output, weights }, with the bytes that the weights
// take, or { error }. The shape is
//   of decode and encode, the autoencoder: height, width
//   of states, the T5 encoder: tokens
//   of predict, the transformer: tokens, tokens of text, and how many of these, the last, count a quarter
import { Autoencoder, FluxTransformer, T5Encoder } from '../../../dist/nn.js'

const networks = { states: T5Encoder, predict: FluxTransformer, decode: Autoencoder, encode: Autoencoder }
const wave = (length, k) => Float32Array.from({ length }, (_, i) => Math.sin(i * k) + Math.cos(i * 0.013))

async function evaluate(network, mode, shape) {
  if (mode === 'states') {
    const tokens = Int32Array.from({ length: shape[0] }, (_, i) => (i * 37) % network.config.vocabSize)
    return network.encode(tokens)
  }
  if (mode === 'predict') {
    const [tokens, text, biased = 0] = shape
    const imgIds = Float32Array.from(
      { length: 3 * tokens },
      (_, i) => [0, Math.floor(i / 3 / 5), Math.floor(i / 3) % 5][i % 3],
    )
    const { inChannels, contextInDim, vecInDim } = network.config
    const input = {
      img: wave(tokens * inChannels, 0.7),
      imgIds,
      txt: wave(text * contextInDim, 0.37),
      txtIds: new Float32Array(3 * text),
      vec: wave(vecInDim, 0.9),
    }
    const textBias = biased ? [{ first: text - biased, count: biased, strength: 0.25 }] : []
    return network.predict({ ...input, timestep: 0.6, guidance: 3, textBias })
  }
  const [height, width] = shape
  const channels = mode === 'decode' ? network.config.zChannels : 3
  const output = await network[mode](wave(channels * height * width, 0.7), height, width)
  return mode === 'decode' ? output : output.mean
}

process.on('message', async ({ mode, weights, precision, shape }) => {
  try {
    const network = await networks[mode].load(weights, { threads: 2, precision })
    const output = await evaluate(network, mode, shape)
    process.send({ output, weights: network.memory().weights })
    await network.close()
  } catch (error) {
    process.send({ error: error.message })
  }
})
