import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'

test('50 clients for a minute, half of which leave at random moments', { timeout: 300_000 }, () => {
  const args = ['bench/server-load.mjs', '--clients', '50', '--seconds', '60']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  console.log(stdout)
  expect(stderr).toBe('')
  expect(status).toBe(0)
  const { images, left, memoryMiB, ended } = JSON.parse(stdout)
  expect(images).toBeGreaterThan(20)
  expect(left).toBeGreaterThan(20)
  // each request became a job at most once, and none is missing
  expect(ended.completed).toBeGreaterThanOrEqual(images)
  expect(memoryMiB.growth.server).toBeLessThan(60)
  expect(memoryMiB.growth.engine).toBeLessThan(60)
})
