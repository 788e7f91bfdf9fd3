import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { goldenIo, goldenWeights } from '../support/golden.js'
import { relL2 } from '../support/safetensors.js'
import { vulkanEnvironment } from '../support/vulkan.js'

// Mesa's Vulkan device for CPUs. Each shader is compiled for up to a minute, so this is a small part of `npm run test:gpu`.
const folder = mkdtempSync(join(tmpdir(), 'ggflux-lavapipe-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const { env, reason } = vulkanEnvironment('lavapipe', folder)
if (reason) console.log(`skipped: computing on a Vulkan device (${reason})`)
Object.assign(process.env, env)

const minutes = (count: number) => ({ timeout: count * 60_000 })

describe.skipIf(reason)('a Vulkan device', () => {
  test('passes its trial', minutes(15), async () => {
    const { devices } = await import('../../lib/native/devices.js')
    const found = (await devices()).find(({ name }) => name === 'Vulkan0')
    expect(found).toMatchObject({ kind: 'gpu', backend: 'Vulkan', driver: expect.stringMatching(/Mesa/) })
    expect(found).not.toHaveProperty('refused')
  })

  test('encodes text as the reference does', minutes(15), async () => {
    const { ClipTextEncoder } = await import('../../lib/nn.js')
    const io = goldenIo('clip-tiny')
    await using clip = await ClipTextEncoder.load(await goldenWeights('clip-tiny'), { backend: 'Vulkan0' })
    const { pooled, hidden } = await clip.encode(io.get('a.in.ids')!.data as Int32Array)
    expect(relL2(pooled, io.get('a.out.pooled')!.data as Float32Array)).toBeLessThan(3e-3)
    expect(relL2(hidden, io.get('a.out.last_hidden_state')!.data as Float32Array)).toBeLessThan(3e-3)
  })
})
