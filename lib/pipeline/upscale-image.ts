import type { HubOptions } from '../hub/settings.js'
import type { RgbImage } from '../images/rgb-image.js'
import { openNetworkFile } from '../networks/network-file.js'
import type { NetworkOptions } from '../networks/network.js'
import { Upscaler, type UpscaleOptions } from '../networks/rrdb/upscaler.js'
import { requireOptions, requirePath } from '../options/checks.js'
import { defined } from '../options/defined.js'
import { localFile } from './local-files.js'

export interface UpscaleImageOptions
  extends UpscaleOptions,
    Pick<NetworkOptions, 'backend' | 'threads' | 'precision' | 'deviceMemory'> {
  /** how a file on the hub is downloaded */
  hub?: HubOptions
  /** called with the bytes of a file in the hub's cache and the total */
  onDownload?: (done: number, total: number) => void
}

const OPTIONS = [
  ...(['tile', 'signal', 'onProgress', 'backend', 'threads', 'precision', 'deviceMemory'] as const),
  ...(['hub', 'onDownload'] as const),
]

/**
 * Enlarges an image by a network, which is loaded for it. `Upscaler` of `ggflux/nn` is for many images.
 *
 * @param image as `readImage` returns it; alpha is scaled by Lanczos
 * @param upscaler the file of an RRDBNet (ESRGAN, Real-ESRGAN), or 'hf:owner/name:file'
 * @returns the image in 1, 2, 4 or 8 times the size, as the network makes it
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_DOWNLOAD, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_BAD_SHAPE,
 *   FLUX_OUT_OF_MEMORY, FLUX_DEVICE; the signal's reason when aborted
 */
export async function upscaleImage(
  image: RgbImage,
  upscaler: string,
  options: UpscaleImageOptions = {},
): Promise<RgbImage> {
  requireOptions('the options of upscaleImage', options, OPTIONS)
  const { tile, signal, onProgress, hub, onDownload, ...device } = options
  requirePath('upscaler', upscaler, 'the path of a file, or hf:owner/name:file')
  const path = await localFile(upscaler, { ...hub, ...defined({ signal, onProgress: onDownload }) })
  const network = await Upscaler.load(path, { ...device, ...defined({ signal }) })
  try {
    return await network.upscaleImage(image, defined({ tile, signal, onProgress }))
  } finally {
    await network.close()
  }
}

/** Opens the file of a network for {@link upscaleImage}, to find what is wrong with it before any work. */
export async function checkUpscaler(path: string): Promise<void> {
  await openNetworkFile('rrdb', path)
}
