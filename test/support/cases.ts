import type { FluxTransformer, PredictInput } from '../../lib/nn.js'
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

/** Inputs for a transformer of any size: a square of `side` x `side` image tokens, `text` text tokens, the same values every time. */
export function anyInput({ config }: Pick<FluxTransformer, 'config'>, side: number, text: number): PredictInput {
  const wave = (length: number, step: number) => Float32Array.from({ length }, (_, i) => Math.sin(step * i))
  const imgIds = new Float32Array(side * side * 3)
  for (let i = 0; i < side * side; i++) imgIds.set([0, Math.floor(i / side), i % side], 3 * i)
  return {
    img: wave(side * side * config.inChannels, 0.7),
    imgIds,
    txt: wave(text * config.contextInDim, 0.3),
    vec: wave(config.vecInDim, 0.11),
    timestep: 0.5,
    ...(config.guidanceEmbed ? { guidance: 3.5 } : {}),
  }
}
