import { expect, test } from 'vitest'
import { LEAST_INTEGRATED_MEMORY, preferredGpu, type Device } from '../../../lib/native/devices.js'

const device = (name: string, facts: Partial<Device> = {}): Device => ({
  name,
  description: name,
  kind: 'gpu',
  backend: 'Vulkan',
  integrated: false,
  memoryTotal: 8e9,
  memoryFree: 8e9,
  ...facts,
})
const cpu = device('CPU', { kind: 'cpu', backend: 'CPU', memoryFree: 64e9 })

test.each<[string, Device[], string | undefined]>([
  ['no GPU', [cpu], undefined],
  ['the one with more free memory', [cpu, device('a'), device('b', { memoryFree: 9e9 })], 'b'],
  ['CUDA before Vulkan on the same card', [device('a', { memoryFree: 9e9 }), device('b', { backend: 'CUDA' })], 'b'],
  ['Metal, which ggml calls MTL', [device('a', { backend: 'SYCL' }), device('b', { backend: 'MTL' })], 'b'],
  ['own memory before integrated', [device('a', { integrated: true, memoryFree: 32e9 }), device('b')], 'b'],
  ['none that is refused', [device('a', { refused: 'it computes wrongly' }), device('b', { memoryFree: 1e9 })], 'b'],
  ['an integrated one with enough memory', [cpu, device('a', { integrated: true })], 'a'],
  ['no integrated one with little memory', [cpu, device('a', { integrated: true, memoryTotal: 4e9 })], undefined],
])('%s', (_, devices, expected) => {
  expect(preferredGpu(devices, LEAST_INTEGRATED_MEMORY)?.name).toBe(expected)
})

test('who asks for a GPU gets an integrated one with little memory', () => {
  expect(preferredGpu([cpu, device('a', { integrated: true, memoryTotal: 4e9 })])?.name).toBe('a')
})
