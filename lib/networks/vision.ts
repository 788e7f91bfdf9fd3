import { FluxError } from '../errors.js'
import { exactly } from './array-checks.js'
import type { ConfigRules } from './config-rules.js'
import type { EncoderSizes } from './encoder-layers.js'
import { countBlocks, shapeOf, type LayoutTensor, type TensorShape } from './layout.js'

/** What the configurations of all vision towers have in common. */
export interface VisionConfig extends EncoderSizes {
  /** side of the square image in pixels */
  imageSize: number
  /** side of a patch in pixels */
  patchSize: number
}

export const VISION_RULES: ConfigRules<VisionConfig> = {
  hiddenSize: { kind: 'integer', min: 32, max: 8192 },
  numHeads: { kind: 'integer', min: 1, max: 256, free: true },
  numLayers: { kind: 'integer', min: 1, max: 256 },
  intermediateSize: { kind: 'integer', min: 8, max: 65536 },
  imageSize: { kind: 'integer', min: 1, max: 4096, free: true },
  patchSize: { kind: 'integer', min: 1, max: 256 },
}

/** Patches along each side. Pixels at the right and lower edge that fill no whole patch are not used. */
const gridOf = ({ imageSize, patchSize }: Pick<VisionConfig, 'imageSize' | 'patchSize'>) =>
  Math.floor(imageSize / patchSize)

/** The number of patches of an image. */
export const patchCount = (config: Pick<VisionConfig, 'imageSize' | 'patchSize'>): number => gridOf(config) ** 2

/** The first layer: a convolution whose stride is the side of its kernel. */
export function patchEmbedding({ hiddenSize, patchSize }: VisionConfig): LayoutTensor {
  const name = 'vision_model.embeddings.patch_embedding.weight'
  return { name, shape: [hiddenSize, 3, patchSize, patchSize], role: 'convolution' }
}

/** One state for each token. They are added, not looked up, so they keep their precision like biases. */
export function positionEmbedding({ hiddenSize }: VisionConfig, tokens: number): LayoutTensor {
  return { name: 'vision_model.embeddings.position_embedding.weight', shape: [tokens, hiddenSize], role: 'bias' }
}

/**
 * What the tensors show of a configuration: all but the number of heads. The side of the image is a whole number of
 * patches, because shapes do not show the pixels that are left over.
 *
 * @param classTokens tokens in addition to the patches
 */
export function visionSizes(
  tensors: Map<string, TensorShape>,
  classTokens: number,
): Omit<VisionConfig, 'numHeads'> & { grid: number } {
  const [hiddenSize, , patchSize] = shapeOf(tensors, 'vision_model.embeddings.patch_embedding.weight', 4) as number[]
  const [tokens] = shapeOf(tensors, 'vision_model.embeddings.position_embedding.weight', 2)
  const grid = Math.sqrt(tokens! - classTokens)
  return {
    hiddenSize: hiddenSize!,
    numLayers: countBlocks(tensors.keys(), 'vision_model.encoder.layers.', 'self_attn.q_proj.weight'),
    intermediateSize: shapeOf(tensors, 'vision_model.encoder.layers.0.mlp.fc1.weight', 2)[0]!,
    imageSize: grid * patchSize!,
    patchSize: patchSize!,
    grid,
  }
}

/** @throws {FluxError} FLUX_BAD_OPTION if the side of the image does not give the number of patches that the file has */
export function requireGrid(config: VisionConfig, grid: number): void {
  if (gridOf(config) === grid) return
  const least = grid * config.patchSize
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `config.imageSize is ${config.imageSize}; ${grid} patches of ${config.patchSize} pixels need ${least} to ${least + config.patchSize - 1}`,
  )
}

/**
 * Cuts an image into patches, row by row.
 *
 * @param pixels [3, imageSize, imageSize]
 * @returns [patches, 3 * patchSize * patchSize], each patch in the order of the pixels: channel, row, column
 * @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE for an array of another size
 */
export function patchesOf(pixels: Float32Array, config: VisionConfig): Float32Array {
  const { imageSize: side, patchSize: patch } = config
  exactly('pixels', pixels, 3 * side * side)
  const grid = gridOf(config)
  const patches = new Float32Array(grid * grid * 3 * patch * patch)
  let at = 0
  for (let token = 0; token < grid * grid; token++) {
    const [top, left] = [Math.floor(token / grid) * patch, (token % grid) * patch]
    for (let channel = 0; channel < 3; channel++) {
      for (let row = top; row < top + patch; row++, at += patch) {
        const first = (channel * side + row) * side + left
        patches.set(pixels.subarray(first, first + patch), at)
      }
    }
  }
  return patches
}
