import type { PredictInput } from '../../lib/nn.js'
import { goldenIo, type GoldenModel } from './golden.js'

/** The values of one tensor of a golden file. */
export function goldenFloats(model: GoldenModel, name: string): Float32Array {
  return goldenIo(model).get(name)!.data as Float32Array
}

export function goldenIds(model: GoldenModel, name: string): Int32Array {
  return goldenIo(model).get(name)!.data as Int32Array
}

/** The inputs of a golden case of flux-dev-tiny. */
export function devCase(name: 'a' | 'b'): PredictInput {
  const io = goldenIo('flux-dev-tiny')
  const floats = (tensor: string) => io.get(`${name}.in.${tensor}`)!.data as Float32Array
  return {
    img: floats('img'),
    imgIds: floats('img_ids'),
    txt: floats('txt'),
    txtIds: floats('txt_ids'),
    vec: floats('y'),
    timestep: floats('timesteps')[0]!,
    guidance: floats('guidance')[0]!,
  }
}
