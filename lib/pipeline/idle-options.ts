import { actsIn } from '../families/image-inputs.js'
import { guidancePhase, type GuidanceOptions } from '../sampling/guidance.js'
import type { Settings } from './generate-options.js'

/** Reports options that act in no step, because none is between their start and their end. */
export function idleOptions({ sigmas, trueCfg, images, hires }: Settings): string[] {
  const runs = [{ sigmas, trueCfg }, ...(hires ? [hires] : [])]
  const counts = runs.map(({ sigmas }) => sigmas.length - 1)
  const idle = [
    ...(trueCfg && !runs.some(({ trueCfg }) => guides(trueCfg!)) ? [['trueCfg', trueCfg] as const] : []),
    ...(images?.controlNets ?? []).flatMap((net, i) =>
      counts.some((steps) => stepsOf(steps).some((step) => actsIn(step, steps, net)))
        ? []
        : [[`controlNets[${i}]`, net] as const],
    ),
  ]
  const [steps, second] = counts
  const all = `${steps === 1 ? 'the only step is not' : `none of the ${steps} steps is`}${second ? `, and of hires none of ${second},` : ''}`
  return idle.map(
    ([name, { start = 0, end = 1 }]) =>
      `${name} does nothing: ${all} between its start (${start}) and its end (${end}); widen them, or leave it out`,
  )
}

const stepsOf = (count: number): number[] => Array.from({ length: count }, (_, step) => step)

/** Whether it changes a step: by the negative prompt, or to none at all. */
function guides(trueCfg: GuidanceOptions): boolean {
  const phaseAt = guidancePhase(trueCfg)
  return trueCfg.sigmas.slice(0, -1).some((sigma) => phaseAt(sigma) !== 'unguided')
}
