import { FluxError } from '../errors.js'

/**
 * The maximum length of a text in UTF-16 units: about ten times what T5's 512 tokens hold, and still encoded in under
 * 100 ms.
 */
export const MAX_TEXT_LENGTH = 32_768

/**
 * Rejects a text or length that a tokenizer cannot encode.
 *
 * @param least the number of tokens for begin and end alone
 * @throws FluxError FLUX_BAD_OPTION
 */
export function checkText(text: unknown, maxLength: unknown, least: number): asserts text is string {
  if (typeof text !== 'string')
    throw new FluxError('FLUX_BAD_OPTION', `the text to encode must be a string, not ${typeof text}`)
  if (text.length > MAX_TEXT_LENGTH) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `the text has ${text.length} characters and may have ${MAX_TEXT_LENGTH}; shorten it (T5 sees at most 512 tokens)`,
    )
  }
  if (!Number.isInteger(maxLength) || (maxLength as number) < least || (maxLength as number) > MAX_TEXT_LENGTH) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `maxLength is ${String(maxLength)}; give an integer from ${least} to ${MAX_TEXT_LENGTH}`,
    )
  }
}
