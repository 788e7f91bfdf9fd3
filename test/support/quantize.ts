import { toFloat16 } from '../../lib/formats/float16.js'
import { TENSOR_TYPES } from '../../lib/formats/tensor-types.js'

const { id: Q8_0, blockSize, blockBytes } = TENSOR_TYPES.Q8_0

/** Q8_0 in TypeScript, for tests that have to do without the addon: the scale max |x| / 127 as a half, then rounded bytes. */
export async function quantizeQ8_0(type: number, data: Float32Array, rowLength: number): Promise<Uint8Array> {
  if (type !== Q8_0 || rowLength % blockSize !== 0)
    throw new Error(`only Q8_0 in whole blocks, not type ${type} in rows of ${rowLength}`)
  const scales = new Float32Array(data.length / blockSize)
  for (let i = 0; i < data.length; i++) scales[i >> 5] = Math.max(scales[i >> 5]!, Math.abs(data[i]!) / 127)
  const bytes = new Uint8Array(scales.length * blockBytes)
  const view = new DataView(bytes.buffer)
  toFloat16(scales).forEach((half, block) => view.setUint16(block * blockBytes, half, true))
  for (let i = 0; i < data.length; i++) {
    const scale = scales[i >> 5]!
    view.setInt8((i >> 5) * blockBytes + 2 + (i % blockSize), scale === 0 ? 0 : Math.round(data[i]! / scale))
  }
  return bytes
}
