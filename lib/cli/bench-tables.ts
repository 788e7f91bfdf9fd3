import type { ProfileRow } from '../nn.js'
import type { Peak } from '../cost/cost-model.js'
import type { BenchResult, BenchRow } from './bench-result.js'
import { formatBytes, formatSeconds, table } from './format.js'

const PRODUCTS = { 'bf16-tiles': 'bfloat16 on AMX tiles', bf16: 'bfloat16', f32: 'float32' } as const

export function printTitle({ version, machine, peak, model }: BenchResult): void {
  const { cpu, threads, memory, device, platform } = machine
  console.log(
    `ggflux ${version}, ${cpu}, ${threads} ${threads === 1 ? 'thread' : 'threads'}, ${formatBytes(memory)}, ${platform}, device ${device}`,
  )
  if (peak) {
    const cache = peak.cache ? `, ${giga(peak.cache)} out of the second cache` : ''
    console.log(
      `peak: ${giga(peak.registers)} GFLOP/s (${PRODUCTS[peak.products]}, out of registers)${cache}; ${giga(peak.memory)} GB/s out of memory`,
    )
  }
  console.log(`${model.transformer}, ${formatBytes(model.bytes)}`)
}

export function printRow(
  { width, height, predicted, took, peak: used, before }: BenchRow,
  { steps, peak }: BenchResult,
): void {
  const time = (name: string, seconds: number, guess: number | undefined, operations?: number) => [
    name,
    guess === undefined ? '' : formatSeconds(guess),
    formatSeconds(seconds),
    offBy(guess, seconds),
    operations === undefined ? '' : giga(operations / seconds),
    operations === undefined || !peak ? '' : percent(operations / seconds / peak.registers),
  ]
  const { seconds: guess, operations, memory } = predicted
  const rows = [
    [`${width} x ${height}`, 'PREDICTED', 'TOOK', 'OFF BY', 'GFLOP/S', 'OF PEAK'],
    time('text, with loading', took.text, guess?.text, operations.text),
    ...(took.load > 0.01 ? [time('loading', took.load, undefined)] : []),
    time('one step', took.step, guess?.step, operations.step),
    time('decoding', took.decode, guess?.decode, operations.decode),
    time(`image of ${steps} ${steps === 1 ? 'step' : 'steps'}`, took.total, guess?.total),
    [
      'memory at most',
      formatBytes(before + memory.total),
      formatBytes(used),
      offBy(before + memory.total, used),
      '',
      '',
    ],
  ]
  console.log(`\n${table(rows, [1, 2, 3, 4, 5])}`)
}

/** Prints a step's operations by kind. Multiplications are compared to peak arithmetic, others to peak bandwidth. */
export function printProfile(
  { width, height, operations }: { width: number; height: number; operations: ProfileRow[] },
  peak: Peak | undefined,
): void {
  const total = operations.reduce((sum, { ms }) => sum + ms, 0)
  const rows = operations.map(({ name, type, count, ms, operations, bytes }) => {
    const seconds = ms / 1000
    const multiplies = operations > 0
    const share = !peak
      ? ''
      : percent(multiplies ? operations / seconds / peak.registers : bytes / seconds / peak.memory)
    const speed = multiplies ? `${giga(operations / seconds)} GFLOP/s` : `${giga(bytes / seconds)} GB/s`
    return [`${name.toLowerCase()} ${type}`, String(count), `${ms.toFixed(1)} ms`, percent(ms / total), speed, share]
  })
  console.log(`\nwhere a step at ${width} x ${height} goes, ${formatSeconds(total / 1000)}`)
  console.log(table([['OPERATION', 'COUNT', 'TIME', 'SHARE', 'SPEED', 'OF PEAK'], ...rows], [1, 2, 3, 4, 5]))
}

function giga(value: number): string {
  const number = value / 1e9
  return number < 9.95 ? number.toFixed(1) : number.toFixed(0)
}

const percent = (share: number): string => `${(100 * share).toFixed(share < 0.095 ? 1 : 0)} %`

function offBy(guess: number | undefined, value: number): string {
  if (guess === undefined) return ''
  const percent = Math.round(100 * (guess / value - 1))
  return `${percent > 0 ? '+' : ''}${percent} %`
}
