/**
 * The 256 characters that stand for bytes in CLIP's vocabulary (bytes_to_unicode in github.com/openai/CLIP, clip/simple_tokenizer.py):
 * Latin-1 without white space, control characters and the soft hyphen for themselves, U+0100 and its followers for the 68 others.
 */
export const BYTE_SYMBOLS: readonly string[] = [
  ...characters(0x21, 0x7e),
  ...characters(0xa1, 0xac),
  ...characters(0xae, 0xff),
  ...characters(0x100, 0x143),
]

function characters(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => String.fromCharCode(first + index))
}
