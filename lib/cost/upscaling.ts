import { timesFlops, type Flops } from '../networks/flops.js'
import { flopsOf, openNetworkFile } from '../networks/network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../networks/network.js'
import { largestTiles } from '../networks/rrdb/tiles.js'

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
