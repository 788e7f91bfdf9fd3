import os from 'node:os'
import { basename } from 'node:path'
import type { Command } from 'commander'
import { FluxError } from '../errors.js'
import type { ImagePipeline, ImageEvent, ModelFiles } from '../index.js'
import { VERSION } from '../version.js'
import { parseNumber } from './arguments.js'
import type { BenchResult, BenchRow, Size } from './bench-result.js'
import { drawBench, loadEcharts } from './bench-plot.js'
import { printProfile, printRow, printTitle } from './bench-tables.js'
import { interruptible } from './interrupt.js'
import { liveLine, printTrial } from './live-line.js'
import {
  addMachineOptions,
  addModelOptions,
  given,
  MACHINE_OPTIONS,
  resolveModel,
  type MachineOptions,
  type ModelOptions,
} from './model-options.js'
import { checkTarget, replaceFile } from './output.js'

interface Options extends ModelOptions, MachineOptions {
  sizes?: Size[]
  steps: number
  maxSequenceLength?: number
  profile?: true
  json?: string
  plot?: string
}

export function benchCommand(program: Command): void {
  const command = program
    .command('bench')
    .description("measure this machine's speed, next to its peak")
    .option('--sizes <list>', "image sizes, such as 256,512x768 (default: the model's own)", parseSizes)
    .option('--steps <n>', 'steps per image; the fastest is reported', parseNumber, 2)
    .option('--max-sequence-length <n>', 'tokens that T5 reads (default: dev 512, schnell 256, tiny 32)', parseNumber)
    .option('--profile', 'show where the time of one step goes, at the last size')
    .option('--json <file>', 'write all results to this file')
    .option('--plot <file>', 'plot time and memory by size, as SVG; needs echarts (npm install echarts)')
  addModelOptions(command)
  addMachineOptions(command).addHelpText(
    'after',
    `
Time and memory are predicted before each image; "off by" is the error of the prediction.

Examples:
  ggflux bench
  ggflux bench --model flux-schnell --sizes 256,512 --profile --json bench.json
  ggflux synth --model flux-schnell --type q4_0 -o full       (12 GB of random weights, as fast as real ones)
  ggflux bench --model full --sizes 256,512`,
  )
  command.action(bench)
}

async function bench(options: Options): Promise<void> {
  const { json, plot } = options
  for (const path of [json, plot]) if (path !== undefined) await checkTarget(path)
  if (plot !== undefined) await loadEcharts()
  const source = await resolveModel(options)
  const result = await interruptible((signal) => measure(source, options, signal))
  if (json !== undefined) await replaceFile(json, Buffer.from(`${JSON.stringify(result, null, 2)}\n`))
  if (plot !== undefined) await replaceFile(plot, Buffer.from(await drawBench(result)))
}

async function measure(source: string | ModelFiles, options: Options, signal: AbortSignal): Promise<BenchResult> {
  const [{ ImagePipeline }, { chooseDevice }, { devicePeak }, { openModel }, { denoiserOf }] = await Promise.all([
    import('../pipeline/pipeline.js'),
    import('../native/devices.js'),
    import('../cost/cost-model.js'),
    import('../pipeline/open-model.js'),
    import('../families/family.js'),
  ])
  const { threads = os.availableParallelism(), steps } = options
  const { name: device } = await chooseDevice(options.backend, { signal, onTrial: printTrial })
  const peak = await devicePeak(options.backend, threads)
  const { family, networks } = await openModel(source)
  const { path, size } = networks[denoiserOf(family)]!.file
  const result: BenchResult = {
    version: VERSION,
    date: new Date().toISOString().slice(0, 10),
    machine: {
      cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
      processors: os.availableParallelism(),
      threads,
      memory: os.totalmem(),
      platform: `${process.platform}-${process.arch}`,
      node: process.version,
      device,
    },
    peak,
    model: { transformer: basename(path), bytes: size },
    steps,
    rows: [],
  }
  printTitle(result)
  const before = process.memoryUsage.rss()
  const pipe = await ImagePipeline.load(source, { signal, ...given(options, MACHINE_OPTIONS) })
  try {
    for (const size of options.sizes ?? [undefined]) {
      const row = { ...(await measureSize(pipe, size, options, result.rows.length, signal)), before }
      result.rows.push(row)
      printRow(row, result)
    }
    if (options.profile) {
      const { width, height } = result.rows.at(-1)!
      const operations = await profileStep(pipe, { width, height }, options, signal)
      result.profile = { width, height, operations }
      printProfile(result.profile, result.peak)
    }
    return result
  } finally {
    await pipe.close()
  }
}

/** Generates one image with a new prompt, so that no encoded prompt is reused. */
async function measureSize(
  pipe: ImagePipeline,
  size: Size | undefined,
  options: Options,
  number: number,
  signal: AbortSignal,
): Promise<Omit<BenchRow, 'before'>> {
  const settings = { ...size, ...given(options, ['steps', 'maxSequenceLength']) }
  const predicted = await pipe.estimate(settings)
  let [doing, peak] = ['text', 0]
  const sample = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 20)
  const line = await liveLine(() => `${size ? `${size.width} x ${size.height}: ` : ''}${doing}`)
  try {
    const began = performance.now()
    const steps: number[] = []
    let image: ImageEvent | undefined
    for await (const event of pipe.stream({
      ...settings,
      prompt: `a red fox in the snow, number ${number}`,
      seed: 1,
      signal,
    })) {
      if (event.type === 'stage') doing = event.stage
      if (event.type === 'step') steps.push(event.ms)
      if (event.type === 'image') image = event
    }
    if (!image) throw new FluxError('FLUX_CLOSED', 'the pipeline ended without an image: try again')
    const { width, height, timings } = image
    const total = (performance.now() - began) / 1000
    const took = {
      text: timings.text / 1000,
      load: timings.load / 1000,
      step: Math.min(...steps) / 1000,
      decode: timings.decode / 1000,
      total,
    }
    return { width, height, predicted, took, peak }
  } finally {
    clearInterval(sample)
    line.stop()
  }
}

/** Runs one step of the image that was measured last, and times its operations. */
function profileStep(pipe: ImagePipeline, { width, height }: Size, options: Options, signal: AbortSignal) {
  const settings = given(options, ['maxSequenceLength'])
  return pipe.profile(async () => {
    for await (const { type } of pipe.stream({ ...settings, width, height, prompt: '', steps: 1, seed: 1, signal }))
      if (type === 'step') return
  })
}

/** `256,512x768` */
function parseSizes(text: string): Size[] {
  return text.split(',').map((size) => {
    const [, width, height = width] = /^(\d{1,5})(?:x(\d{1,5}))?$/.exec(size.trim()) ?? []
    if (width === undefined)
      throw new FluxError('FLUX_BAD_OPTION', `--sizes is '${text}': give sizes in pixels, as in 256,512x768`)
    return { width: Number(width), height: Number(height) }
  })
}
