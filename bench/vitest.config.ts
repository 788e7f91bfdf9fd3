import { mergeConfig } from 'vitest/config'
import base from '../vitest.config.js'

/** Measurements: `npm run bench -- <name>`. They print tables and assert only that they ran. */
export default mergeConfig(
  { ...base, test: { ...base.test, include: [] } },
  { test: { include: ['bench/**/*.run.ts'], testTimeout: 3_600_000, disableConsoleIntercept: true } },
)
