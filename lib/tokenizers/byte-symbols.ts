/**
 * The 256 characters that represent bytes in CLIP's vocabulary (bytes_to_unicode in github.com/openai/CLIP,
 * clip/simple_tokenizer.py). Latin-1 characters represent themselves, except white space, control characters and the
 * soft hyphen. The characters from U+0100 on represent the 68 other bytes.
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
