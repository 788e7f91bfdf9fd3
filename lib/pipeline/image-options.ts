import { FluxError } from '../errors.js'
import type { ReferencePlacement } from '../families/image-inputs.js'
import type { Variant } from '../families/family.js'
import type { AlphaOf } from '../images/mask.js'
import { RESIZE_MODES, type ResizeMode } from '../images/resize-planes.js'
import type { ImageSource } from '../images/rgb-image.js'
import { RANGES, requireInRange } from '../options/ranges.js'
import { badOption, requireOneOf, requireOptions, requirePath, requireWhole } from '../options/checks.js'
import { requireStrength, STRENGTH_RULES, type StrengthRule } from '../sampling/strength.js'

/** The images that an image is made from. A source is a path, the bytes of a file, or raw pixels. */
export interface ImageOptions {
  /** the image to start from, or to repaint where `mask` says so */
  image?: ImageSource
  /**
   * how much of the image changes, above 0 up to 1: the part of the noise levels that is run; refused next to
   * `sigmas`. @default 0.6; 1 for models that repaint (Fill)
   */
  strength?: number
  /**
   * white where the image is drawn anew; grey mixes. It has the size of `image`. `{ alphaOf }`: an image that is
   * transparent there
   */
  mask?: ImageSource | AlphaOf
  /** standard deviation in pixels of the blur of the mask's edge, 0 to 256. @default 0 */
  maskBlur?: number
  /** pixels by which the mask grows, -256 to 256. @default 0 */
  maskGrow?: number
  /**
   * draw only the masked part, at the size of the whole image, and paste it back. `padding`: pixels around the mask that
   * are seen as well, 0 to 1024, 32 by default. @default false
   */
  onlyMasked?: boolean | { padding?: number }
  /** pixels added at each side and drawn, 0 to 4096; works best with models that repaint (Fill) */
  extend?: Partial<Record<Side, number>>
  /**
   * whose rules `strength` and `mask` follow. 'diffusers': fewer steps, a binary mask, blended after each step;
   * 'comfyui': all steps, a soft mask, applied to every estimate. @default 'diffusers'
   */
  convention?: StrengthRule
  /** an edge or depth image, for models that follow one (Canny, Depth) and their LoRAs */
  controlImage?: ImageSource
  /** images that the prompt refers to, at most 8, for models that edit (Kontext) */
  referenceImages?: readonly ImageSource[]
  /** how references are placed in the model's space of positions. @default 'offset' */
  referencePlacement?: ReferencePlacement
  /** ControlNets, at most 8; their effects add up */
  controlNets?: readonly ControlNetOptions[]
  /** images that guide next to the text, at most 8; the model needs `siglip` and `redux` */
  redux?: readonly ReduxOptions[]
  /** IP-Adapters, at most 8; the model needs `clipVision` */
  ipAdapters?: readonly IpAdapterOptions[]
  /** how images are brought to the size that is drawn. @default 'cover' */
  resize?: ResizeMode
}

export interface ControlNetOptions {
  /** the ControlNet's file, or `hf:owner/name:file`, which is downloaded once */
  path: string
  /** what it follows: edges, depth, a pose …; for a ControlNet that repaints, the image itself */
  image: ImageSource
  /** for union ControlNets: 'canny', 'tile', 'depth', 'blur', 'pose', 'gray', 'low-quality', 'auto', or the row of the mode */
  mode?: string | number
  /** 0 to 10. @default 0.7 */
  scale?: number
  /** share of the steps after which it begins, 0 to 1. @default 0 */
  start?: number
  /** share of the steps after which it ends, 0 to 1. @default 1 */
  end?: number
}

export interface ReduxOptions {
  image: ImageSource
  /** 0 to 10. @default 1 */
  strength?: number
  /** what the strength acts on: the image's tokens, or the attention that is paid to them. @default 'multiply' */
  strengthType?: 'multiply' | 'attn_bias'
}

export interface IpAdapterOptions {
  /** the adapter's file, or `hf:owner/name:file`, which is downloaded once */
  path: string
  image: ImageSource
  /** -10 to 10. @default 0.6 */
  scale?: number
}

type Side = 'left' | 'right' | 'top' | 'bottom'

/** The images of a request, checked but not read. */
export interface ImageSettings extends Pick<ImageOptions, 'image' | 'mask' | 'controlImage'> {
  strength: number
  convention: StrengthRule
  maskBlur: number
  maskGrow: number
  /** padding in pixels */
  onlyMasked: number | undefined
  extend: Record<Side, number> | undefined
  referenceImages: readonly ImageSource[]
  referencePlacement: ReferencePlacement
  controlNets: readonly Required<Omit<ControlNetOptions, 'mode'>>[] & readonly ControlNetOptions[]
  redux: readonly Required<ReduxOptions>[]
  ipAdapters: readonly Required<IpAdapterOptions>[]
  resize: ResizeMode
}

export const IMAGE_OPTIONS = [
  'image',
  'strength',
  'mask',
  'maskBlur',
  'maskGrow',
  'onlyMasked',
  'extend',
  'convention',
  'controlImage',
  'referenceImages',
  'referencePlacement',
  'controlNets',
  'redux',
  'ipAdapters',
  'resize',
] as const satisfies readonly (keyof ImageOptions)[]

/** of each kind of image */
const MAX_IMAGES = 8
const SIDES: readonly Side[] = ['left', 'right', 'top', 'bottom']

/**
 * Checks the options of a request's images against what the model reads.
 *
 * @returns undefined for a request without images
 * @throws {FluxError} FLUX_BAD_OPTION
 */
export function completeImages(
  options: ImageOptions & { loras?: readonly unknown[]; hires?: object },
  { reads }: Pick<Variant, 'reads'>,
): ImageSettings | undefined {
  const { image, mask, controlImage, referenceImages = [], extend } = options
  const {
    strength = reads === 'fill' ? 1 : 0.6,
    convention = 'diffusers',
    maskBlur = 0,
    maskGrow = 0,
    onlyMasked = false,
    referencePlacement = 'offset',
    resize = 'cover',
  } = options
  const needs = (name: string, what: string): FluxError =>
    new FluxError('FLUX_BAD_OPTION', `${name} is given without ${what}; give both, or leave it out`)
  for (const [name, source] of Object.entries({ image, mask, controlImage })) {
    if (source !== undefined) requireSource(name, source)
  }
  listOf('referenceImages', referenceImages).forEach((source, i) => requireSource(`referenceImages[${i}]`, source))
  requireStrength('strength', strength)
  requireInRange('maskBlur', maskBlur, RANGES.maskBlur)
  requireInRange('maskGrow', maskGrow, RANGES.maskGrow)
  requireOneOf('convention', convention, STRENGTH_RULES)
  requireOneOf('referencePlacement', referencePlacement, ['offset', 'index', 'uxo'])
  requireOneOf('resize', resize, RESIZE_MODES)
  const padding = completePadding(onlyMasked)
  for (const [name, value] of Object.entries({ strength: options.strength, mask, extend })) {
    if (value !== undefined && image === undefined) throw needs(name, 'image')
  }
  for (const [name, value] of Object.entries({
    maskBlur: maskBlur || undefined,
    maskGrow: maskGrow || undefined,
    onlyMasked: padding,
  })) {
    if (value !== undefined && mask === undefined && extend === undefined) throw needs(name, 'mask')
  }
  if (reads === 'fill' && !(image !== undefined && (mask !== undefined || extend !== undefined)))
    throw new FluxError('FLUX_BAD_OPTION', 'the model repaints images: give image, and mask or extend')
  if (reads === 'control') {
    if (controlImage === undefined)
      throw new FluxError('FLUX_BAD_OPTION', 'the model follows an edge or depth image: give controlImage')
  } else if (controlImage !== undefined && !options.loras?.length) {
    const remedy = 'give a model for control images (Canny, Depth) or such a LoRA, or leave controlImage out'
    throw new FluxError('FLUX_BAD_OPTION', `controlImage is given, but the model reads none; ${remedy}`)
  }
  if (referenceImages.length > 0 && reads !== 'references')
    throw new FluxError(
      'FLUX_BAD_OPTION',
      'referenceImages is given, but the model reads none; give a model such as FLUX.1 Kontext',
    )
  const controlNets = completeControlNets(options.controlNets)
  const redux = completeRedux(options.redux)
  const ipAdapters = completeIpAdapters(options.ipAdapters)
  requireUse('convention', options.convention, 'diffusers', { image, hires: options.hires })
  requireUse('resize', options.resize, 'cover', { image, controlImage, controlNets })
  requireUse('referencePlacement', options.referencePlacement, 'offset', { referenceImages })
  const lists = [referenceImages, controlNets, redux, ipAdapters]
  if (image === undefined && controlImage === undefined && lists.every(({ length }) => length === 0)) return undefined
  return {
    ...(image === undefined ? {} : { image }),
    ...(mask === undefined ? {} : { mask }),
    ...(controlImage === undefined ? {} : { controlImage }),
    strength,
    convention,
    maskBlur,
    maskGrow,
    onlyMasked: padding,
    extend: extend === undefined ? undefined : completeExtend(extend),
    referenceImages,
    referencePlacement,
    controlNets,
    redux,
    ipAdapters,
    resize,
  }
}

/**
 * Rejects an option that acts on nothing in this request. Its usual value is accepted, because programs that always give all
 * options lose nothing by it.
 *
 * @param on what the option acts on, by name
 */
function requireUse(name: string, value: unknown, usual: unknown, on: Record<string, unknown>): void {
  if (value === undefined || value === usual) return
  const isGiven = (one: unknown) => (Array.isArray(one) ? one.length > 0 : one !== undefined)
  if (!Object.values(on).some(isGiven))
    throw badOption(name, value, `${Object.keys(on).join(' or ')} as well, which it acts on, or leave it out`)
}

function completeControlNets(list: readonly ControlNetOptions[] = []): ImageSettings['controlNets'] {
  return listOf('controlNets', list).map((net, i) => {
    const name = `controlNets[${i}]`
    requireOptions(name, net, ['path', 'image', 'mode', 'scale', 'start', 'end'])
    const { path, image, mode, scale = 0.7, start = 0, end = 1 } = net
    requirePath(`${name}.path`, path, 'the path of its file')
    requireSource(`${name}.image`, image)
    if (mode !== undefined && typeof mode !== 'string' && typeof mode !== 'number')
      throw badOption(`${name}.mode`, mode, "a name such as 'canny', or the row of the mode")
    requireNumber(`${name}.scale`, scale, 0, 10)
    requireNumber(`${name}.start`, start, 0, 1)
    requireNumber(`${name}.end`, end, start, 1)
    return { path, image, ...(mode === undefined ? {} : { mode }), scale, start, end }
  })
}

function completeRedux(list: readonly ReduxOptions[] = []): ImageSettings['redux'] {
  return listOf('redux', list).map((redux, i) => {
    const name = `redux[${i}]`
    requireOptions(name, redux, ['image', 'strength', 'strengthType'])
    const { image, strength = 1, strengthType = 'multiply' } = redux
    requireSource(`${name}.image`, image)
    requireNumber(`${name}.strength`, strength, 0, 10)
    requireOneOf(`${name}.strengthType`, strengthType, ['multiply', 'attn_bias'])
    return { image, strength, strengthType }
  })
}

function completeIpAdapters(list: readonly IpAdapterOptions[] = []): ImageSettings['ipAdapters'] {
  return listOf('ipAdapters', list).map((adapter, i) => {
    const name = `ipAdapters[${i}]`
    requireOptions(name, adapter, ['path', 'image', 'scale'])
    const { path, image, scale = 0.6 } = adapter
    requirePath(`${name}.path`, path, 'the path of its file')
    requireSource(`${name}.image`, image)
    requireNumber(`${name}.scale`, scale, -10, 10)
    return { path, image, scale }
  })
}

function listOf<T>(name: string, list: readonly T[]): readonly T[] {
  if (!Array.isArray(list) || list.length > MAX_IMAGES) throw badOption(name, list, `an array of at most ${MAX_IMAGES}`)
  return list
}

function requireNumber(name: string, value: unknown, least: number, most: number): void {
  if (typeof value !== 'number' || !(value >= least && value <= most))
    throw badOption(name, value, `a number from ${least} to ${most}`)
}

function completePadding(onlyMasked: boolean | { padding?: number }): number | undefined {
  if (typeof onlyMasked === 'boolean') return onlyMasked ? 32 : undefined
  requireOptions('onlyMasked', onlyMasked, ['padding'])
  return requireWhole('onlyMasked.padding', onlyMasked.padding ?? 32, 0, 1024)
}

function completeExtend(extend: Partial<Record<Side, number>>): Record<Side, number> {
  requireOptions('extend', extend, SIDES)
  const sides = SIDES.map(
    (side) => [side, requireWhole(`extend.${side}`, extend[side] ?? 0, 0, RANGES.width.most)] as const,
  )
  if (sides.every(([, pixels]) => pixels === 0)) throw badOption('extend', extend, 'pixels for at least one side')
  return Object.fromEntries(sides) as Record<Side, number>
}

function requireSource(name: string, source: unknown): void {
  const raw = typeof source === 'object' && source !== null && ('data' in source || 'alphaOf' in source)
  if ((typeof source === 'string' && source !== '') || source instanceof Uint8Array || raw) return
  throw badOption(name, source, 'a path, the bytes of an image file, or { data, width, height, channels }')
}
