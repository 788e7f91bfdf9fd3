// Checks and measures ggflux on a GPU, in one command: golden parity, pictures of the tiny model beside the CPU's, full-size FLUX.1 with random
// weights against a peak measured in the same run, a profile, cancelling.
//   node scripts/gpu-check.mjs [--device CUDA0] [--out gpu-check.json] [--model flux-dev|tiny] [--types BF16,Q8_0,Q4_K] [--sizes 512,1024]
//                              [--folder /dev/shm/ggflux-check] [--only golden,pictures] [--minutes 8]
// Every section runs in a process of its own and its result is written at once, so a run that was stopped goes on where it stopped. Sections that do
// not fit into --minutes are left out and said so. `node scripts/gpu-kit.mjs` packs what a machine without npm needs.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: {
    device: { type: 'string', default: 'CUDA0' },
    out: { type: 'string', default: 'gpu-check.json' },
    model: { type: 'string', default: 'flux-dev' },
    types: { type: 'string', default: 'BF16,Q8_0,Q4_K' },
    sizes: { type: 'string', default: '1024,512' },
    folder: {
      type: 'string',
      default: existsSync('/dev/shm') ? '/dev/shm/ggflux-check' : path.join(os.tmpdir(), 'ggflux-check'),
    },
    only: { type: 'string' },
    minutes: { type: 'string', default: '8' },
    section: { type: 'string' },
  },
})
const { device, folder } = options
const sizes = options.sizes.split(',').map(Number)
const tiny = options.model === 'tiny'
const architectures = tiny
  ? { flux: 'flux-tiny', t5: 't5-tiny', clip: 'clip-tiny', vae: 'autoencoder-tiny' }
  : { flux: options.model, t5: 't5-xxl', clip: 'clip-l', vae: 'autoencoder' }

// ---- sections: name -> what it gives, as JSON ----

const sections = {
  async machine() {
    const { devices } = await import('../dist/index.js')
    const smi = spawnSync(
      'nvidia-smi',
      ['--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem', '--format=csv,noheader'],
      { encoding: 'utf8' },
    )
    return {
      cpu: os.cpus()[0].model,
      processors: os.cpus().length,
      memory: os.totalmem(),
      node: process.version,
      devices: await devices(),
      nvidia: smi.stdout?.trim() ?? null,
    }
  },

  // by PyTorch, where it is installed: nothing of ours is in these figures
  peak() {
    const program = `
import json, time, torch
def best(work, count):
    for _ in range(3): work()
    torch.cuda.synchronize(); times = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(count): work()
        torch.cuda.synchronize(); times.append((time.perf_counter() - begin) / count)
    return sorted(times)[2]
n = 8192
a, b = (torch.randn(n, n, device='cuda', dtype=torch.bfloat16) for _ in range(2))
product = best(lambda: a @ b, 10)
x = torch.randn(1 << 30, device='cuda'); y = torch.empty_like(x)
copy = best(lambda: y.copy_(x), 10)
q, k, v = (torch.randn(1, 24, 4608, 128, device='cuda', dtype=torch.bfloat16) for _ in range(3))
attention = best(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v), 10)
print(json.dumps({'torch': torch.__version__, 'product': 2 * n ** 3 / product, 'copy': 2 * x.nbytes / copy, 'attention': 4 * 4608 ** 2 * 3072 / attention}))`
    const result = spawnSync('python3', ['-c', program], {
      encoding: 'utf8',
      env: { ...process.env, LD_LIBRARY_PATH: process.env.GGFLUX_OUTER_LIBRARIES ?? '' },
    })
    return result.status === 0
      ? JSON.parse(result.stdout)
      : { error: result.stderr?.trim().split('\n').at(-1) ?? String(result.error) }
  },

  golden: () => golden('auto'),
  'golden f32': () => golden('f32'),

  async pictures() {
    const { FluxPipeline } = await import('../dist/index.js')
    const prompts = [
      'a small red circle left of a large blue square on a white background',
      'a yellow star above a purple heart on a dark blue background',
    ]
    const draw = async (backend) => {
      const pipe = await FluxPipeline.load('tiny', { backend })
      const images = []
      for (const prompt of prompts) images.push(await pipe.generate({ prompt, seed: 1, format: 'raw' }))
      const began = performance.now()
      await pipe.generate({ prompt: prompts[0], seed: 2, format: 'raw' })
      const ms = performance.now() - began
      await pipe.close()
      return { images, ms }
    }
    const [there, here] = [await draw(device), await draw('cpu')]
    return { ms: there.ms, cpuMs: here.ms, psnr: there.images.map((image, i) => psnr(image, here.images[i])) }
  },

  // Another program takes all memory but a part. Each call then succeeds or fails with a FluxError; a process that
  // ends is a fault.
  async memory() {
    const rows = []
    for (const free of tiny ? [0.25] : [2, 4, 6, 6.5, 7, 7.5, 8, 9]) {
      const holder = spawn(
        'python3',
        [
          '-c',
          `import sys, torch; free, total = torch.cuda.mem_get_info(); x = torch.empty(max(1, free - int(${free} * 2**30)), dtype=torch.uint8, device='cuda'); print('ready', flush=True); sys.stdin.read()`,
        ],
        {
          stdio: ['pipe', 'pipe', 'ignore'],
          env: { ...process.env, LD_LIBRARY_PATH: process.env.GGFLUX_OUTER_LIBRARIES },
        },
      )
      const ready = await new Promise((resolve) => {
        holder.on('error', () => resolve(false))
        holder.on('exit', () => resolve(false))
        holder.stdout.on('data', () => resolve(true))
      })
      const args = [fileURLToPath(import.meta.url), ...process.argv.slice(2, -2), '--section', 'one step']
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] })
      let text = ''
      child.stdout.on('data', (data) => (text += data))
      const [code, signal] = await new Promise((resolve) => child.on('close', (...result) => resolve(result)))
      rows.push({ free: ready ? free : null, code, signal, result: code === 0 ? JSON.parse(text) : null })
      holder.kill()
    }
    return rows
  },

  async 'one step'() {
    const { FluxTransformer } = await import('../dist/nn.js')
    try {
      const flux = await FluxTransformer.load(await synthesized('flux', 'Q4_K'), { backend: device })
      const times = await timed(() => flux.predict(anyInput(flux, sizes[0] / 16, tiny ? 32 : 512)), 2)
      return { best: Math.min(...times), ...flux.memory() }
    } catch (error) {
      return { code: error.code ?? null, message: error.message }
    }
  },

  encoders: async () => {
    const { ClipTextEncoder, T5Encoder } = await import('../dist/nn.js')
    const result = {}
    for (const [name, Class, tokens, type] of [
      ['t5', T5Encoder, tiny ? 32 : 512, 'Q8_0'],
      ['clip', ClipTextEncoder, tiny ? 16 : 77, 'F16'],
    ]) {
      const file = await synthesized(name, type)
      const began = performance.now()
      const network = await Class.load(file, { backend: device })
      const loaded = performance.now()
      const ids = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % (network.config.vocabSize - 1))
      const encode = () => (name === 'clip' ? network.encode(ids, { eos: tokens - 1 }) : network.encode(ids))
      const times = await timed(encode, 4)
      result[name] = {
        type,
        tokens,
        load: (loaded - began) / 1000,
        first: times[0],
        best: Math.min(...times),
        profile: await network.profile(encode),
      }
      await network.close()
    }
    return result
  },

  async decode() {
    const { Autoencoder } = await import('../dist/nn.js')
    const vae = await Autoencoder.load(await synthesized('vae', 'F32'), { backend: device })
    const result = {}
    for (const size of sizes) {
      const side = size / vae.reduction
      const latent = wave(vae.config.zChannels * side * side, 0.7)
      const gpu = watchMemory()
      const times = await timed(() => vae.decode(latent, side, side), 4)
      result[size] = {
        first: times[0],
        best: Math.min(...times),
        activations: vae.memory().compute,
        peak: await gpu(),
        profile: await vae.profile(() => vae.decode(latent, side, side)),
      }
    }
    return result
  },

  async pipeline() {
    const { FluxPipeline } = await import('../dist/index.js')
    const [transformer, t5, clip, vae] = [
      await synthesized('flux', options.types.split(',')[0]),
      await synthesized('t5', 'Q8_0'),
      await synthesized('clip', 'F16'),
      await synthesized('vae', 'F32'),
    ]
    const pipe = await FluxPipeline.load({ transformer, t5, clip, vae }, { backend: device, textEncoders: 'keep' })
    const steps = 4
    const [width, height] = [sizes[0], sizes[0]]
    const runs = []
    for (let i = 0; i < 3; i++) {
      const began = performance.now()
      for await (const event of pipe.stream({
        prompt: `a red fox in the snow, number ${i}`,
        seed: i,
        steps,
        width,
        height,
      })) {
        if (event.type === 'image') runs.push({ seconds: (performance.now() - began) / 1000, ...event.timings })
      }
    }
    return { width, height, steps, runs }
  },
}

const types = options.types.split(',')
for (const type of types) {
  sections[`step ${type}`] = () => step(type)
}
for (const name of ['golden', `step ${types[0]}`, 'pictures', 'decode', 'encoders'])
  sections[`${name}, ggml's kernels`] = sections[name]

/** The most wanted first: the time may end in between. */
const order = [
  'machine',
  'golden',
  'golden f32',
  ...types.map((type) => `step ${type}`),
  'pictures',
  'decode',
  'memory',
  'encoders',
  'pipeline',
  'peak',
]

/** What the sections' processes have in their environment besides the usual. */
const environments = [[/ggml's kernels/, { GGFLUX_KERNELS: 'ggml' }]]

async function step(type) {
  const { FluxTransformer } = await import('../dist/nn.js')
  const file = await synthesized('flux', type)
  const began = performance.now()
  const flux = await FluxTransformer.load(file, { backend: device })
  const load = (performance.now() - began) / 1000
  const result = { load, weights: flux.memory().weights, sizes: {} }
  for (const size of sizes) {
    const input = anyInput(flux, size / 16, tiny ? 32 : 512)
    const gpu = watchMemory()
    const times = await timed(() => flux.predict(input), 5)
    const row = {
      first: times[0],
      best: Math.min(...times),
      all: times,
      activations: flux.memory().compute,
      peak: await gpu(),
    }
    row.profile = await flux.profile(() => flux.predict(input))
    const controller = new AbortController()
    let aborted = 0
    setTimeout(() => ((aborted = performance.now()), controller.abort()), row.best * 500)
    await flux.predict({ ...input, signal: controller.signal }).catch(() => {})
    row.cancelMs = aborted ? performance.now() - aborted : null
    result.sizes[size] = row
  }
  return result
}

async function golden(precision) {
  const { goldenErrors, goldenIo, goldenWeights } = await import('../build/check/golden.js')
  const { relL2 } = await import('../build/check/safetensors.js')
  const { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder } = await import('../dist/nn.js')
  const limits = goldenErrors()
  const rows = []
  const compare = (model, output, actual) => {
    const limit = limits[`${model}.io.safetensors`][output].suggested.rel_l2
    rows.push({ what: `${model} ${output}`, error: relL2(actual, goldenIo(model).get(output).data), limit })
  }
  const load = async (Class, model) => Class.load(await goldenWeights(model), { backend: device, precision })
  for (const model of ['flux-dev-tiny', 'flux-schnell-tiny']) {
    const io = goldenIo(model)
    const flux = await load(FluxTransformer, model)
    for (const name of ['a', 'b']) {
      const given = (tensor) => io.get(`${name}.in.${tensor}`)?.data
      const guidance = given('guidance') && { guidance: given('guidance')[0] }
      const input = {
        img: given('img'),
        imgIds: given('img_ids'),
        txt: given('txt'),
        txtIds: given('txt_ids'),
        vec: given('y'),
        timestep: given('timesteps')[0],
        ...guidance,
      }
      compare(model, `${name}.out.pred`, await flux.predict(input))
    }
  }
  {
    const t5 = await load(T5Encoder, 't5-tiny')
    for (const name of ['a', 'b'])
      compare(
        't5-tiny',
        `${name}.out.last_hidden_state`,
        await t5.encode(goldenIo('t5-tiny').get(`${name}.in.ids`).data),
      )
    const clip = await load(ClipTextEncoder, 'clip-tiny')
    for (const name of ['a', 'b', 'c']) {
      const { pooled, hidden } = await clip.encode(goldenIo('clip-tiny').get(`${name}.in.ids`).data)
      compare('clip-tiny', `${name}.out.pooled`, pooled)
      compare('clip-tiny', `${name}.out.last_hidden_state`, hidden)
    }
  }
  const { goldenImageChecks, GoldenNetworks } = await import('../build/check/golden-images.js')
  const networks = new GoldenNetworks({ backend: device, precision })
  for (const check of goldenImageChecks.values())
    for (const [what, error, limit] of await check(networks)) rows.push({ what, error, limit })
  await networks.close()
  const io = goldenIo('ae-tiny')
  const vae = await load(Autoencoder, 'ae-tiny')
  for (const name of ['dec-a', 'dec-b']) {
    const { data, shape } = io.get(`${name}.in.z`)
    compare('ae-tiny', `${name}.out.image`, await vae.decode(data, shape[2], shape[3]))
  }
  const { data, shape } = io.get('enc-a.dbg.image_f32')
  compare('ae-tiny', 'enc-a.out.mean', (await vae.encode(data, shape[2], shape[3])).mean)
  return rows
}

// ---- helpers of the sections ----

async function synthesized(network, type) {
  const { synthesize } = await import('../dist/tools/synth/synth.js')
  const { nativeQuantize } = await import('../dist/native/addon.js')
  const file = path.join(folder, `${architectures[network]}-${type}.gguf`)
  mkdirSync(folder, { recursive: true })
  if (!existsSync(file)) {
    const began = performance.now()
    const { size } = await synthesize({
      architecture: architectures[network],
      path: file,
      type,
      quantize: nativeQuantize,
    })
    console.error(`  made ${path.basename(file)}: ${gib(size)} in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  }
  return file
}

const wave = (length, step) => Float32Array.from({ length }, (_, i) => Math.sin(step * i))

function anyInput({ config }, side, text) {
  const imgIds = new Float32Array(side * side * 3)
  for (let i = 0; i < side * side; i++) imgIds.set([0, Math.floor(i / side), i % side], 3 * i)
  const guidance = config.guidanceEmbed ? { guidance: 3.5 } : {}
  return {
    img: wave(side * side * config.inChannels, 0.7),
    imgIds,
    txt: wave(text * config.contextInDim, 0.3),
    vec: wave(config.vecInDim, 0.11),
    timestep: 0.5,
    ...guidance,
  }
}

/** seconds of each of `count` calls */
async function timed(work, count) {
  const times = []
  for (let i = 0; i < count; i++) {
    const began = performance.now()
    await work()
    times.push((performance.now() - began) / 1000)
  }
  return times
}

/** The most MiB that all programs together had of the GPU, until the returned function is called; null without nvidia-smi. */
function watchMemory() {
  const smi = spawn('nvidia-smi', ['--query-gpu=memory.used', '--format=csv,noheader,nounits', '-lms', '50'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let most = null
  smi.on('error', () => {})
  smi.stdout?.on(
    'data',
    (text) => (most = Math.max(most ?? 0, ...String(text).split('\n').filter(Boolean).map(Number))),
  )
  return async () => {
    await sleep(100)
    smi.kill()
    return most
  }
}

function psnr(a, b) {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2
  return sum === 0 ? null : 10 * Math.log10(255 ** 2 / (sum / a.length))
}

const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`

// ---- the run ----

if (options.section) {
  const result = await sections[options.section]()
  process.stdout.write(JSON.stringify(result))
  process.exit(0)
}

const started = performance.now()
const done = existsSync(options.out)
  ? JSON.parse(readFileSync(options.out, 'utf8'))
  : {
      date: new Date().toISOString(),
      options: { device, model: options.model, types: options.types, sizes: options.sizes },
      sections: {},
    }
// in a checkout; a kit holds it already
if (!existsSync(new URL('../build/check/golden-images.js', import.meta.url)))
  await (await import('./golden-reader.mjs')).compileGoldenReader()
const libraries = cudaLibraries()
let failed = 0
for (const name of [...new Set([...order, ...Object.keys(sections)])]) {
  if (name === 'one step') continue // a part of `memory`
  if (options.only && !options.only.split(',').some((wanted) => name.startsWith(wanted))) continue
  if (done.sections[name] && !done.sections[name].error) continue
  const spent = (performance.now() - started) / 1000
  const left = 60 * Number(options.minutes) - spent
  if (left < 10) {
    console.log(`${name}: left out, the time is used up`)
    continue
  }
  console.log(`${name} (after ${spent.toFixed(0)} s)`)
  done.sections[name] = await run(name, left)
  if (done.sections[name].error) failed++
  writeFileSync(`${options.out}.partial`, JSON.stringify(done, null, 1))
  renameSync(`${options.out}.partial`, options.out)
}
print(done.sections)
rmSync(folder, { recursive: true, force: true })
process.exitCode = failed ? 1 : 0

function run(name, seconds) {
  const outer = process.env.LD_LIBRARY_PATH ?? ''
  const extra = Object.assign({}, ...environments.filter(([pattern]) => pattern.test(name)).map(([, env]) => env))
  const env = {
    ...process.env,
    ...extra,
    GGFLUX_OUTER_LIBRARIES: outer,
    LD_LIBRARY_PATH: [...libraries, outer].filter(Boolean).join(':'),
  }
  const args = [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--section', name]
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000)
    let text = ''
    child.stdout.on('data', (data) => (text += data))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      try {
        resolve(code === 0 ? JSON.parse(text) : { error: `exit ${code ?? signal}` })
      } catch (error) {
        resolve({ error: String(error) })
      }
    })
  })
}

/** Folders of cuBLAS 13 and the CUDA runtime where the system's loader does not know them: those of Python packages. */
function cudaLibraries() {
  const found = new Set()
  for (const name of ['libcublas.so.13', 'libcudart.so.13']) {
    const search = spawnSync(
      'find',
      ['/usr/local', '/opt', '/usr/lib', '/usr/local/nvidia', '-name', name, '-not', '-path', '/proc/*'],
      { encoding: 'utf8' },
    )
    const [first] = (search.stdout ?? '').split('\n').filter(Boolean)
    if (first) found.add(path.dirname(first))
  }
  return [...found]
}

function print(results) {
  const s = (seconds) =>
    seconds === undefined ? '' : seconds < 1 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(2)} s`
  const rows = []
  for (const [name, result] of Object.entries(results)) {
    if (result.error) rows.push([name, `failed: ${result.error}`])
    else if (name === 'machine')
      rows.push([name, `${result.nvidia || result.cpu}; ${result.devices.map((d) => d.description).join(', ')}`])
    else if (name === 'peak')
      rows.push([
        name,
        `product ${(result.product / 1e12).toFixed(0)} TFLOP/s, attention ${(result.attention / 1e12).toFixed(0)} TFLOP/s, copy ${(result.copy / 1e12).toFixed(2)} TB/s`,
      ])
    else if (name.startsWith('golden'))
      for (const { what, error, limit } of result)
        rows.push([
          name,
          `${what}  ${error.toExponential(1)} of ${limit.toExponential(0)}${error <= limit ? '' : '  OVER'}`,
        ])
    else if (name.startsWith('pictures'))
      rows.push([
        name,
        `PSNR ${result.psnr.map((p) => p?.toFixed(1) ?? 'same').join(', ')} dB; ${result.ms.toFixed(0)} ms, on the CPU ${result.cpuMs.toFixed(0)} ms`,
      ])
    else if (name.startsWith('encoders'))
      for (const [which, { load, first, best }] of Object.entries(result))
        rows.push([name.replace('encoders', which), `load ${s(load)}, first ${s(first)}, then ${s(best)}`])
    else if (name.startsWith('decode'))
      for (const [size, { first, best, peak }] of Object.entries(result))
        rows.push([`${name} ${size}`, `first ${s(first)}, then ${s(best)}; peak ${peak} MiB`])
    else if (name === 'memory')
      for (const { free, code, signal, result: step } of result)
        rows.push([
          `memory, ${free} GiB free`,
          step ? (step.message ?? `${s(step.best)}, ${gib(step.weights)} of weights`) : `ENDED: ${code ?? signal}`,
        ])
    else if (name === 'pipeline')
      rows.push([
        `pipeline ${result.width}, ${result.steps} steps`,
        result.runs.map(({ seconds }) => s(seconds)).join(', '),
      ])
    else
      for (const [size, { first, best, peak, cancelMs }] of Object.entries(result.sizes))
        rows.push([
          `${name} ${size}`,
          `first ${s(first)}, then ${s(best)}; load ${s(result.load)}; peak ${peak} MiB${cancelMs === undefined ? '' : `; cancelled in ${cancelMs?.toFixed(0)} ms`}`,
        ])
  }
  const width = Math.max(...rows.map(([what]) => what.length))
  for (const [what, text] of rows) console.log(`${what.padEnd(width)}  ${text}`)
  for (const [name, result] of Object.entries(results)) {
    const profiles =
      name.startsWith('decode') || name.startsWith('encoders')
        ? Object.entries(result)
        : result.sizes
          ? Object.entries(result.sizes)
          : []
    for (const [size, { profile }] of profiles) {
      if (!profile) continue
      console.log(`\n${name} ${size}`)
      for (const { name: operation, type, count, ms, operations, bytes } of profile.slice(0, 14)) {
        const speed = operations
          ? `${(operations / ms / 1e9).toFixed(0)} TFLOP/s`
          : `${(bytes / ms / 1e9).toFixed(2)} TB/s`
        console.log(
          `  ${ms.toFixed(2).padStart(8)} ms  ${String(count).padStart(5)}  ${speed.padStart(12)}  ${operation} ${type}`,
        )
      }
    }
  }
}
