import { truncateSync, writeFileSync } from 'node:fs'
import { fluxLayout, type FluxConfig } from '../../lib/models/layouts/flux.js'
import { ggufHeader } from '../../lib/models/gguf-writer.js'
import { tensorBytes, type TensorType } from '../../lib/models/types.js'

const CONFIG: FluxConfig = {
  inChannels: 64,
  outChannels: 64,
  hiddenSize: 3072,
  numHeads: 24,
  depth: 2,
  depthSingleBlocks: 2,
  contextInDim: 4096,
  vecInDim: 768,
  guidanceEmbed: true,
  axesDim: [16, 56, 56],
  theta: 10000,
}

/**
 * Writes a transformer of FLUX.1's width and a few blocks, all weights zero, as a sparse file: it takes hardly any disk and long enough to
 * load (0.6 GB are repacked) that something can happen meanwhile.
 */
export function sparseFlux(path: string): string {
  const tensors = fluxLayout(CONFIG).map(({ name, shape, role }) => {
    const type: TensorType = role === 'matrix' ? 'Q4_0' : 'F32'
    return { name, shape, type, data: new Uint8Array() }
  })
  const { header, alignment } = ggufHeader(tensors, { 'general.architecture': 'flux' })
  writeFileSync(path, header)
  const size = tensors.reduce((end, { type, shape }) => end + Math.ceil(tensorBytes(type, shape) / alignment) * alignment, header.length)
  truncateSync(path, size)
  return path
}
