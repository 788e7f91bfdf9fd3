import { schedule } from '../../sampling/schedule.js'
import type { ScheduleRequest } from '../family.js'
import { FLUX_LATENT } from './latent.js'

/** The shift grows with the number of image tokens. */
export function fluxSigmas({ width, height, ...request }: ScheduleRequest): number[] {
  const side = FLUX_LATENT.sizeMultiple
  return schedule({ ...request, sequenceLength: (width / side) * (height / side) })
}
