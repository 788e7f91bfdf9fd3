import { expect, test } from 'vitest'
import { fromWire, toWire, withoutNulls } from '../../../lib/server/wire.js'

test('names, at every level, and back', () => {
  const own = {
    maskBlur: 1,
    controlNets: [{ endAt: 2, image: Buffer.from('x') }],
    list: [[1, null]],
    plain: 'some_text',
  }
  const wire = toWire(own)
  expect(wire).toEqual({
    mask_blur: 1,
    control_nets: [{ end_at: 2, image: own.controlNets[0]!.image }],
    list: [[1, null]],
    plain: 'some_text',
  })
  expect(fromWire(wire)).toEqual(own)
})

test('nulls of the top level are left out', () => {
  expect(withoutNulls({ a: null, b: 0, c: { d: null } })).toEqual({ b: 0, c: { d: null } })
  expect(withoutNulls(null)).toBeNull()
  expect(withoutNulls([null])).toEqual([null])
})
