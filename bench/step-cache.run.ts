import { expect, test } from 'vitest'
import { heldOutPrompts, percent, verdict } from '../test/support/judge/trial.js'
import { loadTiny } from '../test/support/tiny.js'

const [SIDE, PICTURES] = [128, 24]
const TOLERANCES = [0, 0.05, 0.1, 0.2, 0.4]

test.for([28, 50])('step cache of the tiny model, %i steps', async (steps) => {
  await using pipe = await loadTiny()
  const { single, pair } = heldOutPrompts()
  const prompts = [...single, ...pair].filter((_, i) => i % 10 === 0).slice(0, PICTURES)
  const whole: Buffer[] = []
  console.log(
    `\n${steps} steps\n\n| tolerance | evaluations | fewer by | PSNR, median | PSNR, worst tenth | right |\n|---|---|---|---|---|---|`,
  )
  for (const stepCache of TOLERANCES) {
    let [evaluations, right] = [0, 0]
    const psnr: number[] = []
    for (const [i, prompt] of prompts.entries()) {
      for await (const event of pipe.stream({
        prompt: prompt.prompt,
        seed: 1000 + i,
        width: SIDE,
        height: SIDE,
        steps,
        stepCache,
        format: 'raw',
      })) {
        if (event.type === 'step' && !event.reused) evaluations++
        if (event.type !== 'image') continue
        whole[i] ??= event.image
        psnr.push(peakSignalToNoise(event.image, whole[i]!))
        if (verdict(event.image, SIDE, SIDE, prompt, 1000 + i).right) right++
      }
    }
    psnr.sort((a, b) => a - b)
    const [median, worst] = [psnr[Math.floor(psnr.length / 2)]!, psnr[Math.floor(psnr.length / 10)]!]
    const each = evaluations / prompts.length
    console.log(
      `| ${stepCache} | ${each.toFixed(1)} | ${(steps / each).toFixed(2)} x | ${median.toFixed(1)} dB | ${worst.toFixed(1)} dB | ${percent(right / prompts.length)} |`,
    )
    expect(psnr).toHaveLength(prompts.length)
  }
})

function peakSignalToNoise(a: Uint8Array, b: Uint8Array): number {
  const square = a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0) / a.length
  return 10 * Math.log10(255 ** 2 / square)
}
