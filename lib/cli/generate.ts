import { Option, type Command } from 'commander'
import { FluxError } from '../errors.js'
import type { GenerateOptions, ImageEvent, ImageFormat, LatentPreview, LoraOptions, ModelFiles } from '../index.js'
import { SAMPLERS } from '../sampling/samplers.js'
import { SCHEDULERS } from '../sampling/schedule.js'
import type { ControlNetOptions, IpAdapterOptions, ReduxOptions } from '../pipeline/image-options.js'
import { addEntries, addLora, parseNumber, parseNumbers, parsePadding, parseSides } from './arguments.js'
import { interruptible } from './interrupt.js'
import {
  addMachineOptions,
  addModelOptions,
  given,
  MACHINE_OPTIONS,
  resolveModel,
  type MachineOptions,
  type ModelOptions,
} from './model-options.js'
import {
  checkTarget,
  keepImage,
  IMAGE_SUFFIXES,
  imageFormat,
  replaceFile,
  writeNewFile,
  writeStdout,
} from './output.js'
import { defined } from '../options/defined.js'
import { printWarning } from './failure.js'
import { withProgress } from './write-progress.js'
import { imageReport, type GeneratedImage, type ImageReport } from './image-report.js'
import { detectDrawing, DRAWINGS, type Drawing } from './terminal-image.js'

/** Options that are passed to the pipeline unchanged. */
const PASSED = [
  'width',
  'height',
  'steps',
  'guidance',
  'seed',
  'sampler',
  'scheduler',
  'sigmas',
  'shift',
  'noise',
  'maxSequenceLength',
  'promptWeights',
  'stepCache',
  'quality',
  'negativePrompt',
  'trueCfg',
  'count',
  'image',
  'strength',
  'mask',
  'maskBlur',
  'maskGrow',
  'onlyMasked',
  'extend',
  'convention',
  'controlImage',
  'referencePlacement',
  'resize',
] as const

interface Options extends ModelOptions, MachineOptions, Pick<GenerateOptions, (typeof PASSED)[number]> {
  variationSeed?: number
  variationStrength?: number
  hiresScale?: number
  hiresStrength?: number
  hiresUpscale?: 'latent' | 'image'
  hiresUpscaler?: string
  lora?: LoraOptions[]
  referenceImage?: string[]
  controlnet?: ControlNetOptions[]
  reduxImage?: ReduxOptions[]
  ipAdapter?: IpAdapterOptions[]
  output?: string
  preview?: string
  previewEvery?: number
  previewMethod?: 'linear' | 'taef1' | 'autoencoder'
  show: Drawing | 'auto' | 'none'
  format?: keyof typeof IMAGE_SUFFIXES
  json?: true
  quiet?: true
}

const TINY_NOTE =
  'No model was named, so the tiny one of this package draws: simple shapes in plain colours, one or two. ' +
  'For a real one give --model flux.1-schnell (12 GB, downloaded once), or the folder of your own files with --model.\n'

export function generateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('generate an image from a prompt')
    .argument('<prompt>', 'what the image shows')
    .option('-o, --output <file>', 'file of the image; - is stdout (default: ggflux-<seed>.png)')
  addModelOptions(command)
    .optionsGroup('Image:')
    .option('--width <pixels>', '64 to 4096, a multiple of 16 (default: 1024; tiny 128)', parseNumber)
    .option('--height <pixels>', 'like --width', parseNumber)
    .option('--steps <n>', 'denoising steps (default: dev 28, schnell 4, tiny 8)', parseNumber)
    .option('--guidance <n>', 'strength of the prompt, not for schnell (default: 3.5; tiny 2)', parseNumber)
    .option('--seed <n>', 'the same seed gives the same image (default: random)', parseNumber)
    .option('--count <n>', 'number of images; the seeds follow each other (default: 1)', parseNumber)
    .option('--variation-seed <n>', 'noise on the way to that of a second seed', parseNumber)
    .option('--variation-strength <n>', 'how far on that way, 0 to 1', parseNumber)
    .option('--hires-scale <n>', 'enlarge the image so many times and refine it (default: one pass)', parseNumber)
    .option(
      '--hires-strength <n>',
      'how much of the enlarged image changes, above 0, up to 1 (default: 0.5)',
      parseNumber,
    )
    .addOption(new Option('--hires-upscale <how>', 'what is enlarged (default: latent)').choices(['latent', 'image']))
    .option(
      '--hires-upscaler <file>',
      'RRDBNet (ESRGAN, Real-ESRGAN) that enlarges the image, .safetensors or .gguf (default: none, Lanczos)',
    )
    .addOption(new Option('--sampler <name>', '(default: euler)').choices(Object.keys(SAMPLERS)))
    .addOption(new Option('--scheduler <name>', '(default: official)').choices(Object.keys(SCHEDULERS)))
    .addOption(
      new Option('--sigmas <list>', 'your own noise levels, such as 1,0.75,0.5')
        .argParser(parseNumbers)
        .conflicts(['steps', 'scheduler', 'shift']),
    )
    .addOption(
      new Option(
        '--shift [how]',
        'keep larger images longer at high noise levels; comfyui: every size alike (default: dev)',
      ).choices(['comfyui']),
    )
    .option('--no-shift', 'no shift (default: schnell)')
    .addOption(
      new Option(
        '--noise <type>',
        'float32 as in ComfyUI, bfloat16 as in the official program (default: float32)',
      ).choices(['float32', 'bfloat16']),
    )
    .option('--max-sequence-length <n>', 'tokens that T5 reads (default: dev 512, schnell 256, tiny 32)', parseNumber)
    .option('--prompt-weights', 'read (word:1.3), (word) and [word] in the prompt as weights')
    .option(
      '--step-cache <error>',
      'relative error allowed for skipped evaluations, such as 0.1 (default: 0, skip none)',
      parseNumber,
    )
    .option(
      '--true-cfg <n>',
      'scale of classifier-free guidance; each step takes twice as long (default: 1, none)',
      parseNumber,
    )
    .option('--negative-prompt <text>', 'what the image should not show; needs --true-cfg')
    .option(
      '--lora <file[:scale]>',
      'a LoRA, also hf:owner/name:file, and its strength; may be repeated (default: 1)',
      addLora,
    )
    .optionsGroup('Images in:')
    .option('--image <file>', 'the image to start from, or to repaint')
    .option('--strength <n>', 'how much of it changes, above 0, up to 1 (default: 0.6; Fill 1)', parseNumber)
    .option('--mask <file>', 'white where --image is drawn anew')
    .option('--mask-blur <pixels>', "softens the mask's edge (default: 0)", parseNumber)
    .option('--mask-grow <pixels>', 'grows the mask, or shrinks it (default: 0)', parseNumber)
    .option('--only-masked [padding]', 'draw only the masked part, larger, and paste it back', parsePadding)
    .option('--extend <sides>', 'pixels to add and draw, such as left=64,right=64', parseSides)
    .option('--control-image <file>', 'an edge or depth image, for Canny and Depth models')
    .option(
      '--reference-image <file>',
      'an image the prompt refers to, for Kontext; may be repeated',
      (path, before: string[] = []) => [...before, path],
    )
    .addOption(
      new Option('--reference-placement <how>', 'where they are placed (default: offset)').choices([
        'offset',
        'index',
        'uxo',
      ]),
    )
    .option(
      '--controlnet <list>',
      'file=…,image=… and mode=canny, scale=0.7, start=0, end=1 as needed; may be repeated',
      addEntries(['file', 'image'], ['mode', 'scale', 'start', 'end']),
    )
    .option(
      '--redux-image <list>',
      'an image that guides: image=… and strength=1; may be repeated; needs --redux and --siglip',
      addEntries(['image'], ['strength']),
    )
    .option(
      '--ip-adapter <list>',
      'file=…,image=… and scale=0.6; may be repeated; needs --clip-vision',
      addEntries(['file', 'image'], ['scale']),
    )
    .addOption(
      new Option('--convention <name>', 'whose rules --strength and --mask follow (default: diffusers)').choices([
        'diffusers',
        'comfyui',
      ]),
    )
    .addOption(
      new Option('--resize <how>', 'how images are brought to --width and --height (default: cover)').choices([
        'cover',
        'contain',
        'stretch',
        'none',
      ]),
    )
    .optionsGroup('Output:')
    .addOption(
      new Option('--format <name>', '(default: from the suffix of --output)').choices(Object.keys(IMAGE_SUFFIXES)),
    )
    .option('--quality <n>', '1 to 100; not for PNG (default: 90, AVIF 60)', parseNumber)
    .option('--preview <file>', 'write a preview to this file at every step')
    .option('--preview-every <n>', 'only at every n-th step', parseNumber)
    .addOption(
      new Option(
        '--preview-method <name>',
        'linear is small and fast, taef1 needs --preview-decoder (default: linear)',
      ).choices(['linear', 'taef1', 'autoencoder']),
    )
    .addOption(
      new Option('--show <how>', 'how to show the image in the terminal; blocks need true colour')
        .choices(['auto', 'none', ...DRAWINGS])
        .default('auto'),
    )
    .option('--json', 'print one JSON object per event on stdout')
    .option('--quiet', 'print only errors')
  addMachineOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  ggflux generate "a small red circle left of a large blue square"
  ggflux generate "a red fox in the snow" -o fox.png --transformer flux1-schnell-Q4_0.gguf \\
    --t5 t5-v1_1-xxl-encoder-Q8_0.gguf --clip clip_l.safetensors --vae ae.safetensors
  ggflux generate "a red fox in the snow" -o fox.webp --model flux-dev --seed 7 --preview step.png
  ggflux generate "a red fox in the snow" --model flux-dev --image sketch.png --strength 0.7
  ggflux generate "a red hat" --model flux-dev --image photo.png --mask hat.png --mask-blur 4
  ggflux generate "a red fox in the snow" -o - | magick - -resize 50% small.png`,
    )
    .action(generate)
}

async function generate(prompt: string, options: Options): Promise<void> {
  const began = performance.now()
  const drawing = chooseDrawing(options)
  const format = await checkOutput(options, drawing)
  const source = await resolveModel(options)
  const files = await onThisMachine(options)
  if (source === 'tiny' && !options.model && !options.quiet) process.stderr.write(TINY_NOTE)

  const report = await imageReport(options, drawing, began)
  let generated: GeneratedImage
  try {
    const { preview, previewEvery: every, previewMethod: method } = options
    const { variationSeed, variationStrength, hiresScale: scale, hiresStrength, hiresUpscale: upscale } = options
    const { hiresUpscaler: upscaler } = options
    const shown = preview !== undefined || drawing ? { preview: { every, method } } : {}
    const settings = {
      prompt,
      format,
      ...given(options, PASSED),
      ...grouped('variation', { seed: variationSeed, strength: variationStrength }),
      ...grouped('hires', { scale, strength: hiresStrength, upscale, upscaler }),
      ...(options.referenceImage ? { referenceImages: options.referenceImage } : {}),
      ...(options.reduxImage ? { redux: options.reduxImage } : {}),
      ...files,
      ...shown,
    }
    generated = await interruptible((signal) => makeImage({ ...settings, signal }, source, options, report, began))
  } finally {
    report.stop()
  }
  await report.finish(generated)
}

/** LoRAs, ControlNets and IP-Adapters; those on the hub are downloaded first, with a progress line. */
async function onThisMachine({ lora, controlnet, ipAdapter, quiet }: Options) {
  const files = defined({ loras: lora, controlNets: controlnet, ipAdapters: ipAdapter })
  const paths = Object.values(files).flatMap((list) => list.map(({ path }) => path))
  const { isOnHub } = await import('../hub/plan.js')
  if (!paths.some((path) => typeof path === 'string' && isOnHub(path))) return files
  const { withLocalFiles } = await import('../pipeline/local-files.js')
  const onWarning = quiet ? () => {} : printWarning
  return (await withProgress(quiet, (signal, onProgress) => withLocalFiles(files, { signal, onProgress, onWarning })))
    .result
}

/** Returns an option that is an object, unless all of its values are undefined. */
function grouped<T extends object>(name: string, values: T): Record<string, T> {
  return Object.values(values).every((value) => value === undefined) ? {} : { [name]: values }
}

async function makeImage(
  settings: GenerateOptions & { signal: AbortSignal },
  source: string | ModelFiles,
  options: Options,
  report: ImageReport,
  began: number,
): Promise<GeneratedImage> {
  const { signal } = settings
  const { ImagePipeline } = await import('../pipeline/pipeline.js')
  const { chooseDevice } = await import('../native/devices.js')
  await chooseDevice(options.backend, { signal, onTrial: (backend) => report.trial(backend) })
  const onProgress = (share: number) => report.load(share)
  const pipe = await ImagePipeline.load(source, { signal, onProgress, ...given(options, MACHINE_OPTIONS) })
  const loadMs = performance.now() - began
  try {
    let steps = 0
    let preview = options.preview
    for await (const event of pipe.stream(settings)) {
      if (event.type === 'image') {
        signal.throwIfAborted()
        const path = await writeImage(event, {
          ...options,
          output: numbered(options.output, event.index, options.count),
        })
        const timings = { ...event.timings, load: event.timings.load + loadMs }
        const generated = { image: event, path, steps, timings, ms: performance.now() - began }
        if (event.index === (options.count ?? 1) - 1) return generated
        await report.finish(generated)
        continue
      }
      if (event.type === 'step') {
        steps = event.steps
        if (event.preview && preview !== undefined) {
          try {
            await writePreview(event.preview, preview)
          } catch (error) {
            await report.event({
              type: 'warning',
              message: `${preview}: the preview of step ${event.step} cannot be written, and there will be no more: ${(error as Error).message}`,
            })
            preview = undefined
          }
        }
      }
      await report.event(event)
    }
    throw new FluxError('FLUX_CLOSED', 'the pipeline ended without an image: try again')
  } finally {
    await pipe.close()
  }
}

/** Returns the image format. Throws before the work starts if the result could not be written at the end. */
async function checkOutput(
  { output, format, preview, previewEvery, previewMethod, json, count = 1 }: Options,
  drawing: Drawing | undefined,
): Promise<ImageFormat> {
  const refuse = (message: string): never => {
    throw new FluxError('FLUX_BAD_OPTION', message)
  }
  if (preview !== undefined) {
    imageFormat(preview)
    await checkTarget(preview)
  } else if (!drawing && (previewEvery !== undefined || previewMethod !== undefined))
    refuse('--preview is missing: give the file that shows the preview')
  if (output === '-') {
    if (count > 1) refuse('-o - takes one image: leave --count out, or give a file with -o')
    if (json) refuse('--json and -o - both write to stdout: give a file with -o')
    if (process.stdout.isTTY)
      refuse('-o - would write the bytes of the image to the terminal: send them to a file or a program')
  } else await checkTarget(output ?? 'ggflux.png')
  if (format !== undefined) return IMAGE_SUFFIXES[format]
  return output === undefined || output === '-' ? 'png' : imageFormat(output)
}

/** Chooses how the terminal shows the image. Returns undefined when a program reads the output. */
function chooseDrawing({ show, json, quiet, output }: Options): Drawing | undefined {
  if (show === 'none') return undefined
  const reader = json ? '--json' : quiet ? '--quiet' : output === '-' ? '-o -' : undefined
  const terminal = process.stdout.isTTY && process.stderr.isTTY
  if (show === 'auto') return !reader && terminal ? detectDrawing(process.env) : undefined
  if (!reader && terminal) return show
  const why = reader ? `${reader} leaves no place for the image` : 'stdout and stderr are not both a terminal'
  throw new FluxError('FLUX_BAD_OPTION', `--show is ${show}, but ${why}: leave one of them out`)
}

async function writePreview({ data, width, height }: LatentPreview, path: string): Promise<void> {
  const { encodeImage } = await import('../images/encode.js')
  await replaceFile(path, await encodeImage(data, width, height, { format: imageFormat(path) }))
}

/** Returns the output for one of several images: `fox-1.png` for `fox.png`. */
function numbered(output: string | undefined, index: number, count = 1): string | undefined {
  return output === undefined || count === 1 ? output : output.replace(/(\.[^./\\]*)?$/, `-${index + 1}$1`)
}

/** Returns the path. If the image cannot be written there, it is kept elsewhere and the error says where. */
async function writeImage({ image, seed, format }: ImageEvent, { output }: Options): Promise<string> {
  const [stem, suffix] = [`ggflux-${seed}`, format === 'jpeg' ? 'jpg' : format]
  try {
    if (output === undefined) return await writeNewFile(stem, suffix, image)
    await (output === '-' ? writeStdout(image) : replaceFile(output, image))
    return output
  } catch (error) {
    const kept = await keepImage(stem, suffix, image)
    const where = kept ? `the image is in ${kept}` : 'there was no other place for the image'
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${output === '-' ? 'stdout' : (output ?? `${stem}.${suffix}`)} cannot be written: ${(error as Error).message}; ${where}`,
      { cause: error },
    )
  }
}
