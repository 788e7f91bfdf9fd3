import type { LatentFormat } from '../families/latent-format.js'
import { inBackground } from '../images/background.js'
import type { Settings } from './generate-options.js'

/** Returns the state that the first step starts from: noise. */
export async function startState(
  { channels, reduction, toState }: LatentFormat,
  { width, height, seed, noise }: Pick<Settings, 'width' | 'height' | 'seed' | 'noise'>,
): Promise<Float32Array> {
  const [rows, columns] = [height / reduction, width / reduction]
  return toState(await inBackground('gaussianNoise', [seed, [1, channels, rows, columns], noise]), rows, columns)
}
