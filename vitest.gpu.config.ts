import { mergeConfig } from 'vitest/config'
import base from './vitest.config.js'

/** The tests that need a GPU or take minutes on a driver that stands in for one: `npm run test:gpu`. */
export default mergeConfig(
  { ...base, test: { ...base.test, include: [] } },
  {
    test: { include: ['test/gpu/**/*.gpu.ts'], testTimeout: 1_800_000, hookTimeout: 1_800_000, fileParallelism: false },
  },
)
