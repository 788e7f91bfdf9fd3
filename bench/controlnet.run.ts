// What a ControlNet adds to a step: its share of the time next to its share of the operations. Full width, a seventh of the blocks, in the proportions of FLUX.1
// (19 + 38) and its Union ControlNets (5 + 10). SIDE=1024 measures at another size.
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { nativeQuantize as quantize } from '../lib/native/addon.js'
import { CONTROLNET } from '../lib/networks/controlnet/definition.js'
import { FLUX } from '../lib/networks/flux/definition.js'
import { describeControlNet, FluxTransformer } from '../lib/nn.js'
import { synthesize } from '../lib/tools/synth/synth.js'
import { anyInput } from '../test/support/any-input.mjs'

const folder = mkdtempSync(join(os.tmpdir(), 'ggflux-bench-controlnet-'))
afterAll(() => rmSync(folder, { recursive: true }))

const SIDE = Number(process.env.SIDE ?? 512)
const TEXT = 256

const made = async (architecture: string, config: Record<string, number>) => {
  const path = join(folder, `${architecture}.gguf`)
  await synthesize({ architecture, config, type: 'Q4_0', quantize, path })
  return path
}

test('a step with and without a ControlNet', async () => {
  const path = await made('flux-controlnet-union', { depth: 1, depthSingleBlocks: 2 })
  await using flux = await FluxTransformer.load(await made('flux-dev', { depth: 4, depthSingleBlocks: 8 }))
  await flux.attach([{ kind: 'controlnet', path }])
  const tokens = (SIDE / 16) ** 2
  const input = anyInput(flux, SIDE / 16, TEXT)
  const image = Float32Array.from({ length: tokens * 64 }, (_, i) => Math.sin(i))
  const controls = [{ attachment: 0, image, mode: 'canny' as const }]
  const seconds = [Infinity, Infinity]
  // in turns, so that a machine that becomes slower or faster does so for both
  for (let run = 0; run < 5; run++) {
    for (const [i, more] of [{}, { controls }].entries()) {
      await flux.predict({ ...input, ...more }) // builds the graph
      const began = performance.now()
      await flux.predict({ ...input, ...more })
      seconds[i] = Math.min(seconds[i]!, (performance.now() - began) / 1000)
    }
  }
  const total = ({ products, attention }: { products: number; attention: number }) => products + attention
  const own = total(FLUX.flops(flux.config, [tokens, TEXT]))
  const added = total(CONTROLNET.flops((await describeControlNet(path)).config, [tokens, TEXT]))
  const [without, having] = seconds as [number, number]
  console.log(`\n| | without | with | more |\n|---|---|---|---|`)
  console.log(
    `| operations | ${(own / 1e12).toFixed(2)} T | ${((own + added) / 1e12).toFixed(2)} T | ${(100 * (added / own)).toFixed(1)} % |`,
  )
  console.log(
    `| seconds | ${without.toFixed(2)} | ${having.toFixed(2)} | ${(100 * (having / without - 1)).toFixed(1)} % |`,
  )
  expect(having).toBeGreaterThan(without)
})
