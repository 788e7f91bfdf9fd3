import { expect, test } from 'vitest'
import { formatBytes, formatCount, formatPercent, formatSeconds, printable, table } from '../../../lib/cli/format.js'

test.each([
  [0, '0 bytes'],
  [999, '999 bytes'],
  [1000, '1.0 kB'],
  [812_300_000, '812 MB'],
  [999_600_000, '1.0 GB'],
  [6_790_000_000, '6.8 GB'],
  [23.8e9, '23.8 GB'],
])('%i bytes', (bytes, text) => expect(formatBytes(bytes)).toBe(text))

test.each([
  [77, '77'],
  [123_060_480, '123 M'],
  [11_901_408_320, '11.9 B'],
])('%i parameters', (count, text) => expect(formatCount(count)).toBe(text))

test.each([
  [0.042, '0.04 s'],
  [0.996, '1.0 s'],
  [6.08, '6.1 s'],
  [59.96, '1 min 0 s'],
  [185.4, '3 min 5 s'],
  [3599.6, '1 h 0 min'],
  [3720, '1 h 2 min'],
])('%f seconds', (seconds, text) => expect(formatSeconds(seconds)).toBe(text))

test('a share is never shown as done before it is', () => {
  expect(formatPercent(0.999)).toBe('99 %')
  expect(formatPercent(1)).toBe('100 %')
})

test('columns stand below each other', () => {
  expect(
    table(
      [
        ['a', 'n'],
        ['long', '1'],
        ['b', '200'],
      ],
      [1],
    ),
  ).toBe('a       n\nlong    1\nb     200')
})

test('text of a file cannot steer the terminal', () => {
  expect(printable('name\u001b[2J\nnext \u202egnp.exe')).toBe('name [2J next  gnp.exe')
})
