import { Option, type Command } from 'commander'
import { defined } from '../options/defined.js'
import type { ImageFormat, UpscaleImageOptions } from '../index.js'
import { parseNumber } from './arguments.js'
import { formatSeconds } from './format.js'
import { interruptible } from './interrupt.js'
import { drawBar, liveLine } from './live-line.js'
import { addDeviceOptions, DEVICE_OPTIONS, given } from './model-options.js'
import { checkTarget, imageFormat, replaceFile } from './output.js'

interface Options extends Pick<UpscaleImageOptions, (typeof DEVICE_OPTIONS)[number] | 'tile'> {
  output: string
  upscaler: string
  quality?: number
  quiet?: true
}

export function upscaleCommand(program: Command): void {
  const command = program
    .command('upscale')
    .description('enlarge an image by a network (ESRGAN, Real-ESRGAN)')
    .argument('<image>', 'file of the image')
    .requiredOption('-o, --output <file>', 'file of the enlarged image: .png, .jpg, .webp, .avif')
    .requiredOption('--upscaler <file>', 'RRDBNet, .safetensors or .gguf, or hf:owner/name:file')
    .addOption(
      new Option(
        '--tile <pixels>',
        'side of the tiles, 32 to 4096; smaller ones need less memory (default: what memory allows)',
      ).argParser(parseNumber),
    )
    .option('--quality <n>', 'of JPEG, WebP and AVIF, 1 to 100', parseNumber)
    .option('--quiet', 'print only errors')
  addDeviceOptions(command)
    .addHelpText(
      'after',
      `
The network decides how many times as large the image becomes: 1, 2, 4 or 8. The text of ggflux, A1111 and Forge that says
how the image was made is kept.

Examples:
  ggflux upscale fox.png -o large.png --upscaler RealESRGAN_x4plus.safetensors
  ggflux upscale fox.png -o large.webp --upscaler RealESRGAN_x2plus.safetensors --tile 128`,
    )
    .action(upscale)
}

async function upscale(input: string, options: Options): Promise<void> {
  const { output, upscaler, tile, quality, quiet } = options
  const format = imageFormat(output)
  await checkTarget(output)
  const { checkEncodeOptions, encodeImage, loadEncoder } = await import('../images/encode.js')
  checkEncodeOptions({ format, ...defined({ quality }) })
  await loadEncoder(format)
  const parameters = await parametersOf(input, format)
  const { readImage } = await import('../images/read-image.js')
  const { upscaleImage } = await import('../pipeline/upscale-image.js')
  const began = performance.now()
  let text = 'reading the network'
  const line = quiet ? undefined : await liveLine(() => text)
  let size: { width: number; height: number }
  try {
    size = await interruptible(async (signal) => {
      const image = await readImage(input, { signal })
      const enlarged = await upscaleImage(image, upscaler, {
        ...given(options, DEVICE_OPTIONS),
        ...defined({ tile }),
        signal,
        onDownload: (done, total) => (text = `${drawBar(done / total)}  downloading the network`),
        onProgress: (done) => (text = `${drawBar(done)}  enlarging`),
      })
      const bytes = await encodeImage(enlarged.data, enlarged.width, enlarged.height, {
        format,
        ...defined({ quality, parameters }),
      })
      signal.throwIfAborted()
      await replaceFile(output, bytes)
      return enlarged
    })
  } finally {
    line?.stop()
  }
  const seconds = formatSeconds((performance.now() - began) / 1000)
  if (!quiet) console.log(`${output}  ${size.width} x ${size.height}  ${seconds}`)
}

/**
 * How the image was made, in the form of ggflux, A1111 and Forge, which its enlargement says as well. ComfyUI's workflow
 * and other comments stay behind, and so does a text that the format has no room for.
 */
async function parametersOf(path: string, format: ImageFormat): Promise<string | undefined> {
  const { checkEncodeOptions } = await import('../images/encode.js')
  const { readParameters } = await import('../images/read-parameters.js')
  // an image whose texts cannot be read is enlarged without them
  const { writer, text = '' } = (await readParameters(path).catch(() => undefined)) ?? {}
  if (writer === 'comfyui' || !/^Steps: \d/m.test(text)) return undefined
  try {
    checkEncodeOptions({ format, parameters: text })
    return text
  } catch {
    return undefined
  }
}
