// Evaluates a transformer some times and prints the seconds of the fastest: node bench/predict.mjs <weights> <precision> <side> <text tokens>
import { FluxTransformer } from '../dist/nn.js'
import { anyInput } from '../test/support/any-input.mjs'

const [weights, precision, side, text] = process.argv.slice(2)
const flux = await FluxTransformer.load(weights, { backend: 'cpu', precision })
const input = anyInput(flux, Number(side) / 16, Number(text))
let fastest = Infinity
for (let run = 0; run < 3; run++) {
  const began = performance.now()
  await flux.predict(input)
  fastest = Math.min(fastest, (performance.now() - began) / 1000)
}
await flux.close()
console.log(fastest)
