// Evaluates one network and writes its output as raw F32: compute.mjs decode|encode WEIGHTS HEIGHT WIDTH OUT
import { writeFileSync } from 'node:fs'
import { Autoencoder } from '../../../dist/nn.js'

const [mode, weights, height, width, out] = process.argv.slice(2)
const vae = await Autoencoder.load(weights, { threads: 2 })
const channels = mode === 'decode' ? vae.config.zChannels : 3
const input = Float32Array.from({ length: channels * height * width }, (_, i) => Math.sin(i * 0.7) + Math.cos(i * 0.013))
const output = await vae[mode](input, Number(height), Number(width))
writeFileSync(out, mode === 'decode' ? output : output.mean)
await vae.close()
