// Makes 200 images after a warm-up and prints by how many bytes the process and its array buffers grew: node --expose-gc image-growth.mjs
import { FluxPipeline } from '../../../dist/index.js'

const size = { width: 64, height: 64, steps: 1, maxSequenceLength: 16, format: 'raw' }
const pipe = await FluxPipeline.load('tiny')

async function make(count) {
  for (let seed = 0; seed < count; seed++) await pipe.generate({ ...size, prompt: `fox ${seed}`, seed })
  gc()
  gc()
  const { rss, arrayBuffers } = process.memoryUsage()
  return { rss, arrayBuffers }
}

const before = await make(40)
const after = await make(200)
console.log(JSON.stringify([after.rss - before.rss, after.arrayBuffers - before.arrayBuffers]))
