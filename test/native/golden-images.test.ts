import { afterAll, expect, test } from 'vitest'
import { onAllThreads } from '../support/backend.js'
import { goldenImageChecks, GoldenNetworks } from '../support/golden-images.js'
import { printErrorTable, type ErrorRow } from '../support/parity.js'

const networks = new GoldenNetworks(onAllThreads)
const all: ErrorRow[] = []
afterAll(async () => {
  printErrorTable('errors of runs with images as input beside the reference, F32 weights', all)
  await networks.close()
})

test.each([...goldenImageChecks])('%s', async (_, check) => {
  const rows = await check(networks)
  all.push(...rows)
  expect(rows.length).toBeGreaterThan(1)
  for (const [what, error, limit] of rows) expect(error, what).toBeLessThanOrEqual(limit)
})
