import { actsIn } from '../families/image-inputs.js'
import { guidancePhase } from '../sampling/guidance.js'
import type { Settings } from './generate-options.js'

/** Reports options that act in no step, because none is between their start and their end. */
export function idleOptions({ sigmas, trueCfg, images, hires }: Settings): string[] {
  const runs = [{ sigmas, trueCfg }, ...(hires ? [hires] : [])]
  const counts = runs.map(({ sigmas }) => sigmas.length - 1)
  const isGuided = runs.some(({ sigmas, trueCfg }) => {
    const phaseAt = trueCfg && guidancePhase(trueCfg)
    return !phaseAt || sigmas.slice(0, -1).some((sigma) => phaseAt(sigma) === 'guided')
  })
  const idle = [
    ...(trueCfg && !isGuided ? [['trueCfg', trueCfg] as const] : []),
    ...(images?.controlNets ?? []).flatMap((net, i) => {
      const acts = counts.some((steps) =>
        Array.from({ length: steps }, (_, step) => step).some((step) => actsIn(step, steps, net)),
      )
      return acts ? [] : [[`controlNets[${i}]`, net] as const]
    }),
  ]
  return idle.map(
    ([name, { start = 0, end = 1 }]) =>
      `${name} does nothing: of ${counts.join(' and ')} steps none is between its start, ${start}, and its end, ${end}`,
  )
}
