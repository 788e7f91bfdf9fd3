import type { Stage } from '../server/wire.ts'
import type { PageJob } from '../state/jobs.ts'
import { counted } from '../state/words.ts'

const STAGES: Record<Stage, string> = {
  text: 'Reading the prompt',
  encode: 'Reading the images',
  load: 'Loading the model',
  denoise: 'Drawing',
  decode: 'Decoding the image',
}

/** 'Drawing image 2 of 4, step 3 of 8' */
export function jobInWords({ state, position, stage, index, count, step, steps, isConnected }: PageJob): string {
  if (state === 'failed') return 'Failed'
  if (!isConnected) return 'The connection is lost. Trying again…'
  if (state === 'waiting') return position > 0 ? `Waiting, ${counted(position, 'job')} ahead` : 'Waiting'
  const which = count > 1 ? ` ${index + 1} of ${count}` : ''
  if (stage !== 'denoise') return `${stage ? STAGES[stage] : 'Starting'}${which}`
  return steps > 0 ? `${STAGES.denoise}${which && ` image${which}`}, step ${step} of ${steps}` : STAGES.denoise
}
