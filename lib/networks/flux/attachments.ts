import { FluxError } from '../../errors.js'
import type { NativeArray } from '../../native/addon.js'
import { badOption, requireOneOf, requireOptions } from '../../options/checks.js'
import { exactly, rows } from '../array-checks.js'
import type { ControlNetConfig } from '../controlnet/layout.js'
import { CONTROL_MODES, type ControlMode } from '../controlnet/modes.js'
import type { IpAdapterConfig } from '../ip-adapter/layout.js'
import { openNetworkFile, type NetworkFile } from '../network-file.js'
import type { FluxConfig } from './layout.js'
import { timestepEmbedding } from './timestep-embedding.js'

/** A ControlNet or an IP-Adapter for {@link FluxTransformer.attach}. */
export type FluxAttachment =
  | { kind: 'controlnet'; path: string; config?: Partial<ControlNetConfig> }
  | { kind: 'ip-adapter'; path: string; config?: Partial<IpAdapterConfig> }

/** A control image for one evaluation. */
export interface ControlInput {
  /** index of the ControlNet in the list given to {@link FluxTransformer.attach} */
  attachment: number
  /**
   * The control image, see {@link describeControlNet}. As latents, the packed tokens [n, condChannels] of its latent as
   * the autoencoder scales it, n up to the number of image tokens: the ControlNet sees the first n. For inpainting the
   * latent is that of the image with -1 where it is repainted, and 4 numbers follow, the mask at the token's 2 x 2
   * latent pixels, 1 = keep. As an RGB image, [3, height, width] in -1 to 1.
   */
  image: Float32Array
  /** sides of an RGB image in pixels, multiples of 16; required for these ControlNets only */
  height?: number
  width?: number
  /**
   * For union ControlNets, which need it: a name, the row of the embedding, or 'auto' for no mode, as ComfyUI's 'auto'
   * does.
   */
  mode?: ControlMode | number | 'auto'
  /** 0 to 10; 0 skips the ControlNet's work. @default 1 */
  scale?: number
  /**
   * False leaves out what the ControlNet's single blocks add. diffusers does so for all ControlNets of a list whose first
   * one has no single blocks. @default true
   */
  singleBlocks?: boolean
  /** for a ControlNet with the guidance embedding. @default the transformer's guidance */
  guidance?: number
}

/** An image for one evaluation with an IP-Adapter. */
export interface ImagePromptInput {
  /** index of the IP-Adapter in the list given to {@link FluxTransformer.attach} */
  attachment: number
  /** CLIP's embedding of the image [clipEmbeddingsDim] */
  embeds: Float32Array
  /** -10 to 10; 0 skips the adapter's work. @default 1 */
  scale?: number
}

export type OpenAttachment = NetworkFile<ControlNetConfig> | NetworkFile<IpAdapterConfig>

const MAX_ATTACHMENTS = 16
const MAX_SCALE = 10
const KINDS = ['controlnet', 'ip-adapter'] as const

/** @throws {FluxError} as {@link openNetworkFile}; FLUX_BAD_OPTION */
export async function openAttachments(attachments: readonly FluxAttachment[]): Promise<OpenAttachment[]> {
  if (!Array.isArray(attachments) || attachments.length > MAX_ATTACHMENTS)
    throw badOption('attachments', attachments, `an array of at most ${MAX_ATTACHMENTS}, each { kind, path, config? }`)
  const files: OpenAttachment[] = []
  for (const [i, attachment] of (attachments as FluxAttachment[]).entries()) {
    requireOptions(`attachments[${i}]`, attachment, ['kind', 'path', 'config'])
    const { kind, ...source } = attachment
    requireOneOf(`attachments[${i}].kind`, kind, KINDS)
    files.push((await openNetworkFile(kind, source)) as OpenAttachment)
  }
  return files
}

/** Identifies an attachment and the version of its file. */
export const versionOf = ({ kind, file, config }: OpenAttachment): string =>
  JSON.stringify([kind, file.path, config, file.read])

const isControlNet = (file: OpenAttachment | undefined): file is NetworkFile<ControlNetConfig> =>
  file?.kind === 'controlnet'
const isIpAdapter = (file: OpenAttachment | undefined): file is NetworkFile<IpAdapterConfig> =>
  file?.kind === 'ip-adapter'

/** @throws {FluxError} FLUX_BAD_FILE if the attachment was made for a transformer of another width or depth */
export function requireFits(attachment: OpenAttachment, transformer: FluxConfig): void {
  const fields = isControlNet(attachment)
    ? (['hiddenSize', 'contextInDim', 'vecInDim'] as const)
    : (['hiddenSize', 'depth'] as const)
  const config: Partial<FluxConfig> = attachment.config
  const refuse = (what: string, own: unknown, needed: unknown) => {
    const message = `${what} is ${own}, and the transformer's is ${needed}; give the one that was made for it`
    throw new FluxError('FLUX_BAD_FILE', `${attachment.file.path}: ${message}`)
  }
  for (const field of fields) if (config[field] !== transformer[field]) refuse(field, config[field], transformer[field])
  if (isControlNet(attachment) && attachment.config.inChannels > transformer.inChannels)
    refuse('inChannels', attachment.config.inChannels, transformer.inChannels)
}

/** The part of `predict`'s shape and inputs that describes its attachments, see `native/networks/flux-attachments.hpp`. */
interface AttachmentInputs {
  shape: number[]
  inputs: NativeArray[]
  /** whether any ControlNet gets a mode */
  mode: boolean
}

/** @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE */
export function attachmentInputs(
  attached: readonly OpenAttachment[],
  request: { controls?: readonly ControlInput[]; imagePrompts?: readonly ImagePromptInput[]; guidance?: number },
  imageTokens: number,
): AttachmentInputs {
  const controls = listOf('controls', request.controls ?? []).map((control, i) =>
    controlInputs(`controls[${i}]`, attached, control, request.guidance, imageTokens),
  )
  const prompts = listOf('imagePrompts', request.imagePrompts ?? []).map((prompt, i) =>
    promptInputs(`imagePrompts[${i}]`, attached, prompt),
  )
  const [acting, prompting] = [controls.filter((use) => use !== undefined), prompts.filter((use) => use !== undefined)]
  if (acting.length + prompting.length === 0) return { shape: [], inputs: [], mode: false }
  return {
    shape: [
      acting.length,
      ...acting.flatMap(({ shape }) => shape),
      prompting.length,
      ...prompting.flatMap(({ shape }) => shape),
    ],
    inputs: [...acting, ...prompting].flatMap(({ inputs }) => inputs),
    mode: acting.some(({ mode }) => mode),
  }
}

/** The shape of an evaluation that uses each attachment once, for the whole image and with all that it can do. */
export function wholeUse(attached: readonly OpenAttachment[], imageTokens: number): number[] {
  const uses = attached.map((file, i) => {
    if (!isControlNet(file)) return [i]
    const { rgb, modes } = file.config
    return [i, ...(rgb ? [UNIT, UNIT * imageTokens] : [imageTokens, 1]), Number(modes > 0), 1]
  })
  const [controls, prompts] = [uses.filter((use) => use.length > 1), uses.filter((use) => use.length === 1)]
  return [controls.length, ...controls.flat(), prompts.length, ...prompts.flat()]
}

function listOf<T>(name: string, list: readonly T[]): readonly T[] {
  if (!Array.isArray(list) || list.length > MAX_ATTACHMENTS)
    throw badOption(name, list, `an array of at most ${MAX_ATTACHMENTS}`)
  return list
}

interface Use {
  shape: number[]
  inputs: NativeArray[]
  mode: boolean
}

/** pixels on a side of a token */
const UNIT = 16

/** @returns undefined if it has no effect */
function controlInputs(
  name: string,
  attached: readonly OpenAttachment[],
  control: ControlInput,
  transformerGuidance: number | undefined,
  imageTokens: number,
): Use | undefined {
  requireOptions(name, control, ['attachment', 'image', 'height', 'width', 'mode', 'scale', 'singleBlocks', 'guidance'])
  const { attachment, image, height, width, scale = 1, singleBlocks = true, guidance = transformerGuidance } = control
  const net = attached[attachment]
  if (!isControlNet(net)) throw notAttached(`${name}.attachment`, attachment, attached, 'controlnet')
  const { rgb, condChannels, guidanceEmbed } = net.config
  if (typeof singleBlocks !== 'boolean') throw badOption(`${name}.singleBlocks`, singleBlocks, 'true or false')
  requireScale(`${name}.scale`, scale, 0)
  if (guidanceEmbed && !(typeof guidance === 'number' && guidance >= 0 && guidance <= 1000))
    throw badOption(`${name}.guidance`, guidance, 'a number from 0 to 1000: this ControlNet has a guidance embedding')
  const mode = modeOf(name, net, control.mode)

  let sides: [number, number]
  if (rgb) {
    for (const [field, side] of Object.entries({ height, width })) {
      if (!Number.isInteger(side) || side! < UNIT || side! > 32768 || side! % UNIT !== 0)
        throw badOption(`${name}.${field}`, side, `a multiple of ${UNIT}: this ControlNet reads an RGB image`)
    }
    sides = [height!, width!]
    exactly(`${name}.image`, image, 3 * height! * width!)
  } else {
    if (height !== undefined || width !== undefined)
      throw badOption(
        `${name}.${height === undefined ? 'width' : 'height'}`,
        height ?? width,
        'it for an RGB image only',
      )
    sides = [rows(`${name}.image`, image, condChannels), 1]
  }
  const tokens = rgb ? (height! / UNIT) * (width! / UNIT) : sides[0]
  if (tokens > imageTokens) {
    const message = `${name}.image has ${tokens} tokens, and the image has ${imageTokens}; give it the image's size`
    throw new FluxError('FLUX_BAD_SHAPE', message)
  }
  requireFiniteInput(`${name}.image`, image)
  if (scale === 0) return undefined
  return {
    shape: [attachment, ...sides, Number(mode !== undefined), Number(singleBlocks)],
    inputs: [
      image,
      ...(guidanceEmbed ? [timestepEmbedding(guidance!)] : []),
      ...(mode === undefined ? [] : [Int32Array.of(mode)]),
      Float32Array.of(scale),
    ],
    mode: mode !== undefined,
  }
}

function promptInputs(name: string, attached: readonly OpenAttachment[], prompt: ImagePromptInput): Use | undefined {
  requireOptions(name, prompt, ['attachment', 'embeds', 'scale'])
  const { attachment, embeds, scale = 1 } = prompt
  const adapter = attached[attachment]
  if (!isIpAdapter(adapter)) throw notAttached(`${name}.attachment`, attachment, attached, 'ip-adapter')
  requireScale(`${name}.scale`, scale, -MAX_SCALE)
  exactly(`${name}.embeds`, embeds, adapter.config.clipEmbeddingsDim)
  requireFiniteInput(`${name}.embeds`, embeds)
  return scale === 0 ? undefined : { shape: [attachment], inputs: [embeds, Float32Array.of(scale)], mode: false }
}

/** The row of the embedding, or undefined for none. */
function modeOf(
  name: string,
  { config: { modes }, file }: NetworkFile<ControlNetConfig>,
  mode: ControlInput['mode'],
): number | undefined {
  if (modes === 0) {
    if (mode === undefined) return undefined
    throw badOption(`${name}.mode`, mode, `none: ${file.path} is no union ControlNet with modes`)
  }
  if (mode === 'auto') return undefined
  const names = CONTROL_MODES.slice(0, modes)
  const row = typeof mode === 'string' ? names.indexOf(mode) : mode
  if (row === undefined || !Number.isInteger(row) || row < 0 || row >= modes)
    throw badOption(`${name}.mode`, mode, `one of ${names.join(', ')}, auto, or a number from 0 to ${modes - 1}`)
  return row
}

function requireScale(name: string, scale: number, least: number): void {
  if (!(typeof scale === 'number' && scale >= least && scale <= MAX_SCALE))
    throw badOption(name, scale, `a number from ${least} to ${MAX_SCALE}`)
}

function requireFiniteInput(name: string, values: Float32Array): void {
  const wrong = values.findIndex((value) => !Number.isFinite(value))
  if (wrong >= 0)
    throw new FluxError('FLUX_BAD_OPTION', `${name} has ${values[wrong]} at ${wrong}: give finite numbers`)
}

function notAttached(
  name: string,
  index: unknown,
  attached: readonly OpenAttachment[],
  kind: (typeof KINDS)[number],
): FluxError {
  const possible = attached.flatMap((file, i) => (file.kind === kind ? [i] : []))
  const wanted = possible.length > 0 ? `one of ${possible.join(', ')}` : `attach() a file of the kind '${kind}' first`
  return badOption(
    name,
    index,
    possible.length > 0 ? `the index of an attached ${kind}: ${wanted}` : `nothing yet, and ${wanted}`,
  )
}
