/** A key of a JSON object and the position of its value in the text. */
export interface JsonEntry {
  key: string
  begin: number
  end: number
}

/** Longer than any real name, training log or padding. It keeps each step short. */
const MAX_KEY = 65536
const MAX_VALUE = 8 * 1024 * 1024
const MAX_SPACES = 1024 * 1024

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

const isSpace = (byte: number | undefined) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

/**
 * Yields the entries of the JSON object that fills `text` from `begin` to `end`, one at a time and with duplicates.
 * `JSON.parse` would block for long on a large header and would hide a second entry with the same name. Values are only
 * delimited. Parsing them finds their errors.
 */
export function* objectEntries(
  text: Buffer,
  begin: number,
  end: number,
  fail: (message: string) => never,
): Generator<JsonEntry> {
  let at = begin
  const byte = (): number | undefined => (at < end ? text[at] : undefined)
  const skipSpace = () => {
    const from = at
    while (at - from <= MAX_SPACES && isSpace(byte())) at++
    if (at - from > MAX_SPACES)
      fail(`the header has more than ${MAX_SPACES} spaces at byte ${8 + from}. Use another conversion of the model`)
  }
  const broken = (expected: string): never =>
    fail(`the header's JSON is broken: ${expected} expected at byte ${8 + at}. Download the file again`)
  const expect = (wanted: number) => {
    skipSpace()
    if (byte() !== wanted) broken(`"${String.fromCharCode(wanted)}"`)
    at++
  }
  const skipString = () => {
    expect(QUOTE)
    for (;;) {
      const quote = text.indexOf(QUOTE, at)
      if (quote < 0 || quote >= end) broken('the end of a string')
      let backslashes = 0
      while (quote - 1 - backslashes >= at && text[quote - 1 - backslashes] === BACKSLASH) backslashes++
      at = quote + 1
      if (backslashes % 2 === 0) return
    }
  }
  const skipValue = () => {
    let depth = 0
    for (const last = Math.min(end, at + MAX_VALUE + 1); at < last; at++) {
      const current = text[at]!
      if (current === QUOTE) {
        skipString()
        at--
      } else if (current === OPEN_BRACE || current === OPEN_BRACKET) depth++
      else if (depth > 0 && (current === CLOSE_BRACE || current === CLOSE_BRACKET)) depth--
      else if (depth === 0 && (current === COMMA || current === CLOSE_BRACE)) return
    }
  }

  expect(OPEN_BRACE)
  skipSpace()
  if (byte() === CLOSE_BRACE) at++
  else {
    do {
      skipSpace()
      const keyBegin = at
      skipString()
      if (at - keyBegin > MAX_KEY)
        fail(`the header has a name of ${at - keyBegin} bytes at byte ${8 + keyBegin}. The file is damaged`)
      const key = parseKey(text.toString('utf8', keyBegin, at)) ?? broken('a valid string')
      expect(COLON)
      skipSpace()
      const valueBegin = at
      skipValue()
      if (at - valueBegin > MAX_VALUE)
        fail(
          `the header has a value of ${at - valueBegin} bytes at byte ${8 + valueBegin}; at most ${MAX_VALUE} are allowed`,
        )
      yield { key, begin: valueBegin, end: at }
      skipSpace()
    } while (byte() === COMMA && ++at)
    expect(CLOSE_BRACE)
  }
  skipSpace()
  if (at !== end) broken('nothing more')
}

function parseKey(text: string): string | undefined {
  try {
    return JSON.parse(text) as string
  } catch {
    return undefined
  }
}
