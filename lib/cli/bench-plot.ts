import { FluxError } from '../errors.js'
import type { BenchResult } from './bench-result.js'

// distinguishable for people with colour blindness as well (Okabe and Ito)
const [TEXT, STEP, DECODING, MEMORY] = ['#009e73', '#0072b2', '#d55e00', '#cc79a7'] as const

/** Draws a benchmark as SVG: seconds and bytes over the number of pixels, measured and predicted. */
export async function drawBench({ rows, machine, model }: BenchResult): Promise<string> {
  const { init } = await loadEcharts()
  const byPixels = [...rows].sort((a, b) => a.width * a.height - b.width * b.height)
  const line = (
    name: string,
    axis: number,
    color: string,
    dashed: boolean,
    value: (row: (typeof rows)[number]) => number | undefined,
  ) => ({
    name,
    type: 'line' as const,
    xAxisIndex: axis,
    yAxisIndex: axis,
    color,
    lineStyle: dashed ? { type: 'dashed' as const } : {},
    data: byPixels.flatMap((row) => {
      const found = value(row)
      return found === undefined ? [] : [[(row.width * row.height) / 2 ** 20, found]]
    }),
  })
  const xAxis = [0, 1].map((gridIndex) => ({
    gridIndex,
    type: 'log' as const,
    name: 'megapixels',
    nameLocation: 'middle' as const,
    nameGap: 28,
  }))
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 1000, height: 480 })
  chart.setOption({
    animation: false,
    title: {
      text: model.transformer,
      subtext: `${machine.cpu}, ${machine.threads} threads, ${machine.device}`,
      left: 'center',
    },
    legend: { bottom: 0 },
    grid: [
      { left: 70, right: '55%', top: 80, bottom: 80 },
      { left: '55%', right: 30, top: 80, bottom: 80 },
    ],
    xAxis,
    yAxis: [
      { gridIndex: 0, type: 'log' as const, name: 'seconds' },
      { gridIndex: 1, type: 'log' as const, name: 'GB' },
    ],
    series: [
      line('text', 0, TEXT, false, ({ took }) => took.text),
      line('one step', 0, STEP, false, ({ took }) => took.step),
      line('one step, predicted', 0, STEP, true, ({ predicted }) => predicted.seconds?.step),
      line('decoding', 0, DECODING, false, ({ took }) => took.decode),
      line('decoding, predicted', 0, DECODING, true, ({ predicted }) => predicted.seconds?.decode),
      line('memory', 1, MEMORY, false, ({ peak }) => peak / 1e9),
      line('memory, predicted', 1, MEMORY, true, ({ predicted, before }) => (before + predicted.memory.total) / 1e9),
    ],
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

/** @throws {FluxError} FLUX_UNSUPPORTED when echarts is not installed */
export async function loadEcharts(): Promise<typeof import('echarts')> {
  try {
    return await import('echarts')
  } catch (cause) {
    throw new FluxError('FLUX_UNSUPPORTED', '--plot needs echarts, which draws it: npm install echarts', { cause })
  }
}
