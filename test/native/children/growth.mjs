// Evaluates 200 times after a warm-up and prints by how many bytes the process grew: node --expose-gc growth.mjs <model> <side> …
import { FluxTransformer } from '../../../dist/nn.js'
import { anyInput } from '../../support/any-input.mjs'

const [path, ...sides] = process.argv.slice(2)
const flux = await FluxTransformer.load(path)
const inputs = sides.map((side) => anyInput(flux, Number(side), 16))

async function evaluate(count) {
  for (let i = 0; i < count; i++) await flux.predict(inputs[i % inputs.length])
  gc()
  return process.memoryUsage.rss()
}

const before = await evaluate(50)
console.log((await evaluate(200)) - before)
