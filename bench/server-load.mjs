// Many clients at once, half of which leave at random moments, against `ggflux serve` with the tiny model:
//   node bench/server-load.mjs --clients 50 --seconds 60
// Prints what happened as JSON, and fails if an image was lost, the server did not come to rest, memory grew, or its event loop was held up.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '60' },
    threads: { type: 'string', default: '1' },
  },
})
const [clients, seconds] = [Number(values.clients), Number(values.seconds)]

const program = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))
const limits = ['--max-per-client', '1000', '--max-waiting', '1000']
const server = spawn(
  process.execPath,
  [program, 'serve', '--port', '0', '--backend', 'cpu', '--threads', values.threads, '--quiet', ...limits],
  { stdio: ['ignore', 'inherit', 'pipe'] },
)
process.on('exit', () => server.kill('SIGKILL'))
let url = ''
for await (const line of createInterface(server.stderr)) {
  url = /http:\/\/[\d.]+:\d+/.exec(line)?.[0] ?? ''
  if (url) break
}

/** 0 up to 1, the same in each run */
let state = 1
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}
const pick = (list) => list[Math.floor(random() * list.length)]

const counts = { images: 0, left: 0, failed: [], streams: 0, jobs: 0 }
const latencies = []
const small = () => ({
  prompt: pick(['a red circle', 'a blue square']),
  steps: pick([1, 2, 4]),
  seed: Math.floor(random() * 1000),
})

async function generation(signal) {
  const body = JSON.stringify({ ...small(), size: pick(['64x64', '128x128']) })
  const response = await fetch(`${url}/v1/images/generations`, { method: 'POST', headers, body, signal })
  const answer = await response.json()
  if (!answer.data?.[0]?.b64_json) throw new Error(`no image: ${JSON.stringify(answer).slice(0, 200)}`)
}

async function stream(signal) {
  const body = JSON.stringify({ ...small(), size: '64x64', stream: true, partial_images: 2 })
  const response = await fetch(`${url}/v1/images/generations`, { method: 'POST', headers, body, signal })
  const text = await response.text()
  if (!text.includes('image_generation.completed')) throw new Error(`no image: ${text.slice(0, 200)}`)
  counts.streams++
}

async function followed(signal) {
  const body = JSON.stringify({ ...small(), width: 64, height: 64, previews: true, on_disconnect: 'cancel' })
  const response = await fetch(`${url}/v1/jobs`, { method: 'POST', headers, body, signal })
  const { id } = await response.json()
  const text = await (await fetch(`${url}/v1/jobs/${id}/events`, { signal })).text()
  if (!text.includes('event: completed')) throw new Error(`no image: ${text.slice(-200)}`)
  counts.jobs++
}

const headers = { 'content-type': 'application/json' }
const end = Date.now() + seconds * 1000

async function client(leaves) {
  while (Date.now() < end) {
    const controller = new AbortController()
    const timer = leaves ? setTimeout(() => controller.abort(), random() * 3000) : undefined
    const began = performance.now()
    try {
      await pick([generation, stream, followed])(controller.signal)
      counts.images++
      latencies.push(performance.now() - began)
    } catch (error) {
      if (controller.signal.aborted) counts.left++
      else counts.failed.push(error.message)
    }
    clearTimeout(timer)
  }
}

const metric = async (pattern) => Number(pattern.exec(await (await fetch(`${url}/metrics`)).text())?.[1] ?? Number.NaN)
const residentOf = (pid) =>
  Number(spawnSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' }).stdout) / 1024
const children = () =>
  spawnSync('ps', ['-o', 'pid=', '--ppid', String(server.pid)], { encoding: 'utf8' })
    .stdout.trim()
    .split(/\s+/)
    .map(Number)
const memory = () => ({ server: residentOf(server.pid), engine: residentOf(children()[0]) })

await generation()
const engines = new Set()
const lags = []
const samples = []
const watch = setInterval(async () => {
  for (const pid of children()) engines.add(pid)
  lags.push(await metric(/nodejs_eventloop_lag_p99_seconds ([\d.e-]+)/))
}, 5000)
const sampling = setInterval(() => samples.push(memory()), Math.max(1000, (seconds * 1000) / 60))
await Promise.all(Array.from({ length: clients }, (_, i) => client(i % 2 === 1)))
clearInterval(watch)
clearInterval(sampling)

let rest
for (let i = 0; i < 300; i++) {
  rest = await (await fetch(`${url}/health`)).json()
  if (rest.waiting === 0 && rest.running === 0) break
  await sleep(100)
}
const ended = {}
for (const [, state, count] of (await (await fetch(`${url}/metrics`)).text()).matchAll(
  /ggflux_jobs_total\{state="(\w+)",model="tiny"\} (\d+)/g,
))
  ended[state] = Number(count)
server.kill('SIGTERM')
const [status] = await once(server, 'exit')

const sorted = (list) => list.toSorted((a, b) => a - b)
const at = (list, share) => Math.round(sorted(list)[Math.min(list.length - 1, Math.floor(list.length * share))] ?? 0)
// the second quarter against the last one: the first fills caches
const mean = (part, which) => part.reduce((sum, sample) => sum + sample[which], 0) / part.length
const quarter = Math.max(1, Math.floor(samples.length / 4))
const growth = (which) =>
  Math.round(mean(samples.slice(-quarter), which) - mean(samples.slice(quarter, 2 * quarter), which))
const result = {
  ...{ clients, seconds, ...counts, failed: counts.failed.length, ended, rest, enginesUsed: engines.size },
  latencyMs: { median: at(latencies, 0.5), p99: at(latencies, 0.99) },
  eventLoopLagMs: {
    worstP99: Math.round(Math.max(...lags) * 1000),
    medianP99: Math.round(sorted(lags)[lags.length >> 1] * 1000),
  },
  memoryMiB: { begin: samples[0], end: samples.at(-1), growth: { server: growth('server'), engine: growth('engine') } },
  exitStatus: status,
}
console.log(JSON.stringify(result, null, 2))
const problems = [
  counts.failed.length > 0 && `${counts.failed.length} requests failed, the first: ${counts.failed[0]}`,
  (rest.waiting > 0 || rest.running > 0) && 'jobs were left in the queue',
  (ended.failed ?? 0) > 0 && `${ended.failed} jobs failed`,
  result.eventLoopLagMs.medianP99 >= 50 && `the event loop was held up for ${result.eventLoopLagMs.medianP99} ms (p99)`,
  engines.size > 1 && 'the process that computes was started again',
  status !== 0 && `the server ended with status ${status}`,
].filter(Boolean)
for (const problem of problems) console.error(problem)
process.exitCode = problems.length > 0 ? 1 : 0
