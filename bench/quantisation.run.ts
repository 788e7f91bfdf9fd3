import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { tinyModelFiles } from '../lib/model/bundled-model.js'
import type { TensorType } from '../lib/formats/tensor-types.js'
import { nativeQuantize } from '../lib/native/addon.js'
import { FluxPipeline } from '../lib/pipeline/pipeline.js'
import { convertWeights } from '../test/support/convert.js'
import { heldOutPrompts, percent, rate, trial } from '../test/support/judge/trial.js'

const WORK = process.env.TINY_WORK ?? fileURLToPath(new URL('../models/tiny/train/work', import.meta.url))
const TRAINED = join(WORK, 'export/transformer.safetensors')
const TYPES: TensorType[] = ['F32', 'F16', 'Q8_0', 'Q6_K', 'Q5_K', 'Q4_K', 'Q4_0', 'Q3_K', 'Q2_K']
// what the shipped file says in its metadata
const OPTIONS = { steps: 8, guidance: 2, maxSequenceLength: 32 }

test('agreement of the tiny model by the type of its transformer', async () => {
  if (!existsSync(TRAINED))
    throw new Error(`${TRAINED} is missing: train the model first (models/tiny/train/README.md), or set TINY_WORK`)
  const folder = mkdtempSync(join(tmpdir(), 'ggflux-quantisation-'))
  const { single, pair } = heldOutPrompts()
  console.log('| type | bytes | one thing | two things |\n|---|---|---|---|')
  try {
    for (const type of TYPES) {
      const path = join(folder, type === 'F32' ? `${type}.safetensors` : `${type}.gguf`)
      const transformer = await convertWeights(TRAINED, path, { type, quantize: nativeQuantize })
      await using pipe = await FluxPipeline.load({ ...tinyModelFiles(), transformer })
      const parts = [rate(await trial(pipe, single, OPTIONS)), rate(await trial(pipe, pair, OPTIONS))]
      console.log(`| ${type} | ${statSync(path).size} | ${parts.map(percent).join(' | ')} |`)
      expect(parts.every(Number.isFinite)).toBe(true)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})
