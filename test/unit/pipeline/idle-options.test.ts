import { expect, test } from 'vitest'
import type { Settings } from '../../../lib/pipeline/generate-options.js'
import { idleOptions } from '../../../lib/pipeline/idle-options.js'

const levels = (steps: number) => Array.from({ length: steps + 1 }, (_, i) => 1 - i / steps)
const request = (steps: number, trueCfg?: object, nets: object[] = [], second?: number) => {
  const run = (steps: number) => {
    const sigmas = levels(steps)
    return { sigmas, trueCfg: trueCfg && { scale: 3, sigmas, ...trueCfg } }
  }
  const controlNets = nets.map((net) => ({ path: 'x', scale: 1, start: 0, end: 1, ...net }))
  return { ...run(steps), images: { controlNets }, hires: second && run(second) } as unknown as Settings
}

// diffusers guides the steps from int(start * n) to int(end * n) - 1, and a ControlNet acts in whole steps within its part
test.each([
  [request(4, {}, [{}]), []],
  [
    request(4, { start: 0, end: 0.2 }),
    [
      'trueCfg does nothing: none of the 4 steps is between its start (0) and its end (0.2); widen them, or leave it out',
    ],
  ],
  [request(5, { start: 0, end: 0.2 }), []],
  [request(4, { start: 0.5, end: 0.6 }, [{ end: 0.25 }]), [expect.stringMatching(/^trueCfg does nothing/)]],
  // CFG-Zero* predicts nothing in the first steps, which is an effect as well
  [request(1, { zeroStar: 'diffusers' }), []],
  [request(2, { zeroInitSteps: 2 }), []],
  [request(2, { zeroStar: 'diffusers', end: 0.4 }), []],
  [request(2, { zeroStar: 'comfyui', end: 0.4 }), [expect.stringMatching(/^trueCfg does nothing/)]],
  [
    request(4, {}, [{}, { start: 0.1, end: 0.4 }]),
    [expect.stringMatching(/^controlNets\[1\] does nothing: none of the 4 steps/)],
  ],
  [request(10, {}, [{}, { start: 0.1, end: 0.4 }]), []],
  [request(4, { end: 0.2 }, [{ end: 0.1 }], 10), []],
  [request(1, {}, [{ start: 0.1 }], 2), []],
  [
    request(1, {}, [{ start: 0.6 }], 2),
    [expect.stringMatching(/: the only step is not, and of hires none of 2, between/)],
  ],
])('%#', (settings, warnings) => {
  expect(idleOptions(settings)).toEqual(warnings)
})
