import type { Estimate, Peak } from '../index.js'
import type { ProfileRow } from '../nn.js'

export interface Size {
  width: number
  height: number
}

export interface BenchRow extends Size {
  predicted: Estimate
  /** seconds; `step` is the fastest step */
  took: { text: number; load: number; step: number; decode: number; total: number }
  /** bytes of resident memory: `peak` is the maximum during generation, `before` is from before the model was loaded */
  peak: number
  before: number
}

export interface BenchResult {
  version: string
  date: string
  machine: {
    cpu: string
    processors: number
    threads: number
    memory: number
    platform: string
    node: string
    device: string
  }
  /** undefined on devices other than the CPU */
  peak: Peak | undefined
  model: { transformer: string; bytes: number }
  steps: number
  rows: BenchRow[]
  profile?: Size & { operations: ProfileRow[] }
}
