import { badOption } from '../options/checks.js'
import { inBackground } from './background.js'
import { requireRgbImage, type RgbImage } from './rgb-image.js'

/**
 * Finds the edges of an image: white lines on black, as the Canny models and ControlNets expect them. Computed off the
 * main thread.
 *
 * @param low gradient (sum of the absolute values in x and y, up to 2040) from which an edge continues. ControlNets
 *   were trained with 100 and 200, the official FLUX.1 Canny with 50 and 200
 * @param high gradient from which an edge begins. If it is below `low`, the two are swapped
 * @returns the edges, the same in all three channels; alpha is ignored
 * @throws FluxError FLUX_BAD_OPTION for a threshold that is not a number from 0 to 2040
 */
export async function canny(image: RgbImage, low: number, high: number): Promise<RgbImage> {
  requireRgbImage('image', image)
  for (const [name, value] of Object.entries({ low, high }))
    if (!(typeof value === 'number' && value >= 0 && value <= 2040))
      throw badOption(name, value, 'a number from 0 to 2040')
  const { data, width, height } = image
  return { data: await inBackground('findEdges', [data, width, height, low, high]), width, height }
}
