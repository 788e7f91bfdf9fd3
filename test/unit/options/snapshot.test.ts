import { expect, test } from 'vitest'
import { snapshot } from '../../../lib/options/snapshot.js'

test('what is changed afterwards has no effect', () => {
  const value = { list: [{ data: new Uint8Array([1, 2]) }], bytes: Buffer.from([3, 4]), name: 'a' }
  const copy = snapshot(value)
  value.list[0]!.data[0] = 9
  value.bytes[0] = 9
  value.list.push({ data: new Uint8Array(1) })
  value.name = 'b'
  expect(copy.list).toEqual([{ data: new Uint8Array([1, 2]) }])
  expect([...copy.bytes]).toEqual([3, 4])
  expect(Buffer.isBuffer(copy.bytes)).toBe(true)
  expect(copy.name).toBe('a')
})

test('signals, functions and instances remain the same', () => {
  const { signal } = new AbortController()
  const onWarning = () => 1
  const date = new Date(0)
  expect(snapshot({ signal, onWarning, date })).toEqual({ signal, onWarning, date })
  expect(snapshot({ signal }).signal).toBe(signal)
})

test('a ring, a detached buffer and an endless list do no harm', () => {
  const ring: Record<string, unknown> = {}
  ring.self = ring
  expect(Object.keys(snapshot(ring))).toEqual(['self'])
  const moved = new Uint8Array(4)
  structuredClone(moved, { transfer: [moved.buffer] })
  expect(snapshot({ moved }).moved).toBe(moved)
  const long = Array(2 ** 32 - 1)
  expect(snapshot(long)).toBe(long)
  expect(snapshot(Array(2))).toEqual([undefined, undefined])
})
