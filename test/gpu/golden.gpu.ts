import { gpu, TOLERANCE } from '../support/gpu.js'
import { testGolden } from '../support/golden-suite.js'
import { describe } from 'vitest'

describe.each(['auto', 'f32'] as const)('precision %s', (precision) => {
  testGolden(`on ${gpu} with precision ${precision}`, { backend: gpu, precision }, TOLERANCE[precision])
})
