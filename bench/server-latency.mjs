// What a child process and a server add to an image, measured in turn with the tiny model:
//   node bench/server-latency.mjs --pairs 15
// Prints medians in milliseconds. Both pipelines and the server use the same number of threads.
import { parseArgs } from 'node:util'
import { ImagePipeline } from '../dist/index.js'
import { createServer } from '../dist/server/index.js'

const { values } = parseArgs({
  options: { pairs: { type: 'string', default: '15' }, threads: { type: 'string', default: '2' } },
})
const load = { backend: 'cpu', threads: Number(values.threads) }
const direct = await ImagePipeline.load('tiny', load)
const isolated = await ImagePipeline.load('tiny', { ...load, isolate: true })
const server = await createServer({ port: 0, logLevel: 'silent', load })
const url = await server.listen()
const headers = { 'content-type': 'application/json' }

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1]
const timed = async (work) => {
  const began = performance.now()
  await work()
  return performance.now() - began
}

async function overHttp({ width, height, ...options }) {
  const body = JSON.stringify({ ...options, size: `${width}x${height}` })
  const response = await fetch(`${url}/v1/images/generations`, { method: 'POST', headers, body })
  if (!(await response.json()).data[0].b64_json) throw new Error('no image')
}

/** Until the first preview is there, which is after the first step. */
async function firstPreview(options) {
  const began = performance.now()
  const body = JSON.stringify({ ...options, previews: true })
  const { id } = await (await fetch(`${url}/v1/jobs`, { method: 'POST', headers, body })).json()
  const { body: stream } = await fetch(`${url}/v1/jobs/${id}/events`)
  let text = ''
  let ms = 0
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    text += chunk
    if (!ms && text.includes('"preview"')) ms = performance.now() - began
  }
  return ms
}

async function firstStep(options) {
  const began = performance.now()
  let ms = 0
  for await (const event of direct.stream({ ...options, preview: { every: 1 } }))
    if (!ms && event.type === 'step') ms = performance.now() - began
  return ms
}

/** The part of an image's time that is spent outside its stages: noise of the computation does not reach it. */
async function outsideStages(pipe, options) {
  const began = performance.now()
  for await (const event of pipe.stream(options))
    if (event.type === 'image') return performance.now() - began - Object.values(event.timings).reduce((a, b) => a + b)
}

const result = {}
for (const side of [64, 256, 512]) {
  const options = { prompt: 'a red circle', width: side, height: side, steps: 1, seed: 1 }
  const ways = {
    direct: () => timed(() => direct.generate(options)),
    isolated: () => timed(() => isolated.generate(options)),
    http: () => timed(() => overHttp(options)),
    outsideDirect: () => outsideStages(direct, options),
    outsideIsolated: () => outsideStages(isolated, options),
    directFirstStep: () => firstStep({ ...options, steps: 2 }),
    httpFirstPreview: () => firstPreview({ ...options, steps: 2 }),
  }
  const times = Object.fromEntries(Object.keys(ways).map((name) => [name, []]))
  for (let i = -1; i < Number(values.pairs); i++)
    for (const [name, way] of Object.entries(ways)) {
      const ms = await way()
      if (i >= 0) times[name].push(ms)
    }
  const over = (name, base) => Math.round(median(times[name].map((ms, i) => ms - times[base][i])) * 10) / 10
  result[`${side} x ${side}`] = {
    ...Object.fromEntries(Object.entries(times).map(([name, list]) => [name, Math.round(median(list) * 10) / 10])),
    overheadIsolated: over('isolated', 'direct'),
    overheadIsolatedOutsideStages: over('outsideIsolated', 'outsideDirect'),
    overheadHttp: over('http', 'direct'),
    overheadFirstPreview: over('httpFirstPreview', 'directFirstStep'),
  }
}
console.log(JSON.stringify(result, null, 2))
await Promise.all([direct.close(), isolated.close(), server.close()])
