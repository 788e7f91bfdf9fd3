import type { NameTable, Rename } from '../name-table.js'

/** diffusers uses `resnets` for the blocks of a level and, in the middle, for the blocks next to the attention. */
const RESNET: readonly (readonly [diffusers: string, official: string])[] = [
  ['norm1', 'norm1'],
  ['conv1', 'conv1'],
  ['norm2', 'norm2'],
  ['conv2', 'conv2'],
  ['conv_shortcut', 'nin_shortcut'],
]
/**
 * diffusers counts the decoder's levels from the smallest image to the largest, the official code from the largest to
 * the smallest
 */
const UP = [0, 1, 2, 3]

/** The names in diffusers' `AutoencoderKL` (`src/diffusers/models/autoencoders`) with four levels. */
const DIFFUSERS: readonly Rename[] = [
  [/^(encoder|decoder)\.conv_norm_out\./, '$1.norm_out.'],
  ...RESNET.flatMap(([diffusers, official]): Rename[] => [
    [
      new RegExp(`^encoder\\.down_blocks\\.(\\d+)\\.resnets\\.(\\d+)\\.${diffusers}\\.`),
      `encoder.down.$1.block.$2.${official}.`,
    ],
    ...UP.map(
      (level): Rename => [
        new RegExp(`^decoder\\.up_blocks\\.${level}\\.resnets\\.(\\d+)\\.${diffusers}\\.`),
        `decoder.up.${3 - level}.block.$1.${official}.`,
      ],
    ),
    ...[0, 1].map(
      (i): Rename => [
        new RegExp(`^(encoder|decoder)\\.mid_block\\.resnets\\.${i}\\.${diffusers}\\.`),
        `$1.mid.block_${i + 1}.${official}.`,
      ],
    ),
  ]),
  [/^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.conv\./, 'encoder.down.$1.downsample.conv.'],
  ...UP.map(
    (level): Rename => [
      new RegExp(`^decoder\\.up_blocks\\.${level}\\.upsamplers\\.0\\.conv\\.`),
      `decoder.up.${3 - level}.upsample.conv.`,
    ],
  ),
  [/^(encoder|decoder)\.mid_block\.attentions\.0\.group_norm\./, '$1.mid.attn_1.norm.'],
  [/^(encoder|decoder)\.mid_block\.attentions\.0\.to_([qkv])\./, '$1.mid.attn_1.$2.', '1 x 1'],
  [/^(encoder|decoder)\.mid_block\.attentions\.0\.to_out\.0\./, '$1.mid.attn_1.proj_out.', '1 x 1'],
]

/**
 * The official autoencoder names of black-forest-labs/flux, which are those of CompVis/latent-diffusion, and the names
 * of diffusers.
 */
export const AUTOENCODER_NAMES: NameTable = {
  prefixes: ['first_stage_model.', 'vae.', ''],
  renames: DIFFUSERS,
  aliases: {},
  ignored: [],
  marks: ['decoder.conv_in.weight', 'encoder.conv_in.weight', 'decoder.up.0.block.0.conv1.weight'],
}
