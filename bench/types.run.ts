// How fast each type of weights is, with our kernels and with ggml's: one evaluation at full width with six blocks, a ninth of FLUX.1's.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { measurePeak, type Peak } from '../lib/index.js'
import { FLUX } from '../lib/networks/flux/definition.js'
import { synthesize, type SynthOptions } from '../lib/tools/synth/synth.js'
import { nativeQuantize as quantize } from '../lib/native/addon.js'

const [SIDE, TEXT] = [512, 256]
const CONFIG = { depth: 2, depthSingleBlocks: 4 }
const TYPES = [
  'Q4_0',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'Q8_0',
  'Q2_K',
  'Q3_K',
  'Q5_0',
  'Q4_1',
  'Q5_1',
  'IQ4_NL',
  'IQ4_XS',
  'BF16',
  'F16',
] as const satisfies SynthOptions['type'][]

const folder = mkdtempSync(join(tmpdir(), 'ggflux-types-'))
afterAll(() => rmSync(folder, { recursive: true }))

let peak: Peak
beforeAll(async () => {
  peak = await measurePeak(availableParallelism())
  console.log(
    `peak: ${(peak.registers / 1e9).toFixed(0)} GFLOP/s\n\n| type | seconds | GFLOP/s | of the peak | ggml's kernels | faster by |\n|---|---|---|---|---|---|`,
  )
})

const { products, attention } = FLUX.flops({ ...FLUX.examples['flux-schnell']!, ...CONFIG }, [(SIDE / 16) ** 2, TEXT])

function seconds(weights: string, precision: string, kernels: 'own' | 'ggml'): number {
  const program = fileURLToPath(new URL('./predict.mjs', import.meta.url))
  const env = { ...process.env, GGFLUX_KERNELS: kernels }
  return Number(
    execFileSync(process.execPath, [program, weights, precision, String(SIDE), String(TEXT)], {
      env,
      encoding: 'utf8',
    }),
  )
}

test.each(TYPES)('%s', async (type) => {
  const { path } = await synthesize({
    architecture: 'flux-schnell',
    config: CONFIG,
    type,
    quantize,
    path: join(folder, `${type}.gguf`),
  })
  // by default F16 is computed as exactly as it is stored
  for (const precision of type === 'F16' ? ['auto', 'bf16'] : ['auto']) {
    const [own, ggml] = [seconds(path, precision, 'own'), seconds(path, precision, 'ggml')]
    const speed = (products + attention) / own
    const name = precision === 'auto' ? type : `${type}, precision ${precision}`
    console.log(
      `| ${name} | ${own.toFixed(2)} | ${(speed / 1e9).toFixed(0)} | ${Math.round((100 * speed) / peak.registers)} % | ${ggml.toFixed(2)} | ${(ggml / own).toFixed(2)} x |`,
    )
    expect(own).toBeGreaterThan(0)
  }
  rmSync(path)
})
