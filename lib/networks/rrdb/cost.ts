import { timesFlops, type Flops } from '../flops.js'
import { flopsOf, openNetworkFile } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import { largestTiles } from './tiles.js'

/** What a network that enlarges images takes for one image of this size. */
export async function upscalingCost(
  path: string,
  { width, height }: { width: number; height: number },
  device: NetworkOptions,
): Promise<{ operations: Flops; weights: number; activations: number }> {
  const file = await openNetworkFile('rrdb', path)
  const { unshuffle } = file.config
  const { rows, columns, count } = largestTiles(Math.ceil(height / unshuffle), Math.ceil(width / unshuffle))
  return {
    operations: timesFlops(count, flopsOf(file, [rows, columns])),
    weights: file.bytes,
    activations: await LoadedNetwork.measure(file, device, 'upscale', [rows, columns]),
  }
}
