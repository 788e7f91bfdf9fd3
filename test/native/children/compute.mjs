// Evaluates one network and writes its output as raw F32:
//   compute.mjs decode|encode WEIGHTS OUT HEIGHT WIDTH, the autoencoder; compute.mjs states WEIGHTS OUT TOKENS, the T5 encoder
import { writeFileSync } from 'node:fs'
import { Autoencoder, T5Encoder } from '../../../dist/nn.js'

const [mode, weights, out, ...shape] = process.argv.slice(2)
if (mode === 'states') {
  const t5 = await T5Encoder.load(weights, { threads: 2 })
  const tokens = Int32Array.from({ length: shape[0] }, (_, i) => (i * 37) % t5.config.vocabSize)
  writeFileSync(out, await t5.encode(tokens))
  console.log(t5.memory().weights)
} else {
  const vae = await Autoencoder.load(weights, { threads: 2 })
  const [height, width] = shape.map(Number)
  const channels = mode === 'decode' ? vae.config.zChannels : 3
  const input = Float32Array.from({ length: channels * height * width }, (_, i) => Math.sin(i * 0.7) + Math.cos(i * 0.013))
  const output = await vae[mode](input, height, width)
  writeFileSync(out, mode === 'decode' ? output : output.mean)
}
