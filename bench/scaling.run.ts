// How time and memory of one evaluation grow with the picture, the text, the threads and the blocks, beside the formula: operations over a share of the
// machine's peak (lib/speed.ts). Full width, few blocks: all blocks of a kind cost the same. RESULTS=folder writes scaling.json and scaling.svg.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { init } from 'echarts'
import { afterAll, expect, test } from 'vitest'
import { synthesize } from '../lib/tools/synth/synth.js'
import { nativeQuantize as quantize } from '../lib/native/addon.js'
import { FluxTransformer } from '../lib/nn.js'
import { FLUX } from '../lib/networks/flux/definition.js'
import { devicePeak, CostModel } from '../lib/cost/cost-model.js'
import { anyInput } from '../test/support/any-input.mjs'

interface Point {
  against: 'side' | 'text' | 'threads' | 'blocks'
  value: number
  seconds: number
  predicted: number
  /** of the buffers for activations */
  bytes: number
}

const folder = mkdtempSync(join(os.tmpdir(), 'ggflux-scaling-'))
afterAll(() => rmSync(folder, { recursive: true }))

const processors = os.availableParallelism()
const STANDARD = { side: 512, text: 256, threads: processors, blocks: 6 }
const models = new Map<number, Promise<string>>()

/** A third of the blocks are double ones, as in FLUX.1. */
function model(blocks: number): Promise<string> {
  const config = { depth: blocks / 3, depthSingleBlocks: (2 * blocks) / 3 }
  const path = join(folder, `blocks-${blocks}.gguf`)
  const made =
    models.get(blocks) ??
    synthesize({ architecture: 'flux-schnell', config, type: 'Q4_0', quantize, path }).then(() => path)
  models.set(blocks, made)
  return made
}

async function measure(against: Point['against'], value: number): Promise<Point> {
  const at: Record<Point['against'], number> = { ...STANDARD, [against]: value }
  const { side, text, threads, blocks } = at
  await using flux = await FluxTransformer.load(await model(blocks), { backend: 'cpu', threads })
  const input = anyInput(flux, side / 16, text)
  let seconds = Infinity
  // the first evaluation reads the weights from the disk and touches new memory
  for (let runs = 0, spent = 0; runs < 2 || (runs < 5 && spent < 10); runs++) {
    const began = performance.now()
    await flux.predict(input)
    spent += (performance.now() - began) / 1000
    seconds = Math.min(seconds, (performance.now() - began) / 1000)
  }
  const speed = new CostModel(() => devicePeak('cpu', threads))
  const predicted = await speed.predict('step', FLUX.flops(flux.config, [(side / 16) ** 2, text]), true)
  return { against, value, seconds, predicted: predicted!, bytes: flux.memory().compute }
}

const points: Point[] = []

test.each([
  ['side', [256, 512, 768, 1024, 1536, 2048]],
  ['text', [64, 128, 256, 512]],
  ['threads', Array.from({ length: Math.ceil(Math.log2(processors)) + 1 }, (_, i) => Math.min(2 ** i, processors))],
  ['blocks', [3, 6, 12]],
] as const)('%s', async (against, values) => {
  console.log(`\n| ${against} | seconds | predicted | off by | activations |\n|---|---|---|---|---|`)
  for (const value of values) {
    const point = await measure(against, value)
    const { seconds, predicted, bytes } = point
    points.push(point)
    console.log(
      `| ${value} | ${seconds.toFixed(2)} | ${predicted.toFixed(2)} | ${Math.round(100 * (predicted / seconds - 1))} % | ${(bytes / 2 ** 20).toFixed(0)} MiB |`,
    )
    expect(bytes).toBeGreaterThan(0)
  }
})

test('the result is written', async () => {
  const results = process.env.RESULTS
  const machine = {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    processors,
    peak: await devicePeak('cpu', processors),
  }
  const json = `${JSON.stringify({ date: new Date().toISOString().slice(0, 10), machine, standard: STANDARD, points }, null, 2)}\n`
  if (results === undefined) return console.log('RESULTS names no folder: nothing is written')
  writeFileSync(join(results, 'scaling.json'), json)
  writeFileSync(join(results, 'scaling.svg'), draw(machine.cpu))
  expect(points.length).toBeGreaterThan(10)
})

/** Seconds against each of the four, and memory against the side. */
function draw(cpu: string): string {
  const plots = [
    { against: 'side', name: 'pixels of a side', unit: 'seconds' },
    { against: 'text', name: 'tokens of text', unit: 'seconds' },
    { against: 'threads', name: 'threads', unit: 'seconds' },
    { against: 'blocks', name: 'blocks', unit: 'seconds' },
    { against: 'side', name: 'pixels of a side', unit: 'GiB' },
  ] as const
  const width = 100 / plots.length
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 1400, height: 450 })
  const line = (
    plot: number,
    name: string,
    color: string,
    type: 'solid' | 'dashed',
    value: (point: Point) => number,
  ) => ({
    name,
    type: 'line' as const,
    xAxisIndex: plot,
    yAxisIndex: plot,
    color,
    lineStyle: { type },
    data: points.filter(({ against }) => against === plots[plot]!.against).map((point) => [point.value, value(point)]),
  })
  chart.setOption({
    animation: false,
    title: {
      text: 'One evaluation of FLUX.1 at full width, Q4_0',
      subtext: `${cpu}; where not told otherwise ${STANDARD.side} x ${STANDARD.side}, ${STANDARD.text} tokens of text, ${processors} threads, ${STANDARD.blocks} blocks`,
      left: 'center',
    },
    legend: { bottom: 0 },
    grid: plots.map((_, i) => ({ left: `${i * width + 4}%`, width: `${width - 5}%`, top: 110, bottom: 80 })),
    xAxis: plots.map(({ name }, gridIndex) => ({
      gridIndex,
      type: 'log' as const,
      logBase: 2,
      name,
      nameLocation: 'middle' as const,
      nameGap: 28,
    })),
    yAxis: plots.map(({ unit }, gridIndex) => ({ gridIndex, type: 'log' as const, name: unit })),
    series: plots.flatMap(({ unit }, plot) =>
      unit === 'GiB'
        ? [line(plot, 'activations', '#cc79a7', 'solid', ({ bytes }) => bytes / 2 ** 30)]
        : [
            line(plot, 'measured', '#0072b2', 'solid', ({ seconds }) => seconds),
            line(plot, 'predicted', '#d55e00', 'dashed', ({ predicted }) => predicted),
          ],
    ),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}
