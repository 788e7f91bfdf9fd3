import { requireOneOf, badOption, requireOptions } from '../../options/checks.js'
import { rows } from '../array-checks.js'
import type { TextBias } from '../flux/text-bias.js'

/** An image that guides the transformer next to the text. */
export interface ReduxImage {
  /** [n, contextInDim], as `ReduxProjector.project` returns them */
  tokens: Float32Array
  /** 0 to 10. @default 1 */
  strength?: number
  /**
   * What the strength acts on. 'multiply': the tokens; 'attn_bias': the attention that text and image pay to them.
   *
   * @default 'multiply'
   */
  strengthType?: 'multiply' | 'attn_bias'
}

const MAX_STRENGTH = 10

/**
 * Appends images to the text, as ComfyUI does (comfyanonymous/ComfyUI, `nodes.py`, `StyleModelApply`).
 *
 * @param txt T5's states [T, contextInDim]
 * @returns the inputs `txt` and `textBias` of `FluxTransformer.predict`; the positions of all text tokens are zero
 * @throws {FluxError} FLUX_BAD_OPTION for a strength out of range, FLUX_BAD_SHAPE for tokens of another width
 */
export function appendRedux(
  txt: Float32Array,
  images: readonly ReduxImage[],
  contextInDim: number,
): { txt: Float32Array; textBias: TextBias[] } {
  let first = rows('txt', txt, contextInDim)
  const counts = images.map((image, i) => checkImage(image, `images[${i}]`, contextInDim))
  const all = new Float32Array(txt.length + images.reduce((sum, { tokens }) => sum + tokens.length, 0))
  all.set(txt)
  const textBias: TextBias[] = []
  images.forEach(({ tokens, strength = 1, strengthType = 'multiply' }, i) => {
    const count = counts[i]!
    all.set(strengthType === 'multiply' ? tokens.map((value) => strength * value) : tokens, first * contextInDim)
    if (strengthType === 'attn_bias') textBias.push({ first, count, strength })
    first += count
  })
  return { txt: all, textBias }
}

/** The number of tokens. */
function checkImage(image: ReduxImage, name: string, contextInDim: number): number {
  requireOptions(name, image, ['tokens', 'strength', 'strengthType'])
  const { tokens, strength = 1, strengthType = 'multiply' } = image
  if (typeof strength !== 'number' || !(strength >= 0 && strength <= MAX_STRENGTH))
    throw badOption(`${name}.strength`, strength, `a number from 0 to ${MAX_STRENGTH}`)
  requireOneOf(`${name}.strengthType`, strengthType, ['multiply', 'attn_bias'])
  return rows(`${name}.tokens`, tokens, contextInDim)
}
