import type { NameTable, Rename } from '../name-table.js'

/**
 * The layer numbers in madebyollin/taesd's decoder. Its first layer is a clamp, so all other numbers are one higher.
 */
const OFFICIAL_LAYERS = [1, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 19]

/** TAEF1 with the names of diffusers' `AutoencoderTiny`, or those of its author's decoder file. */
export const TINY_DECODER_NAMES: NameTable = {
  prefixes: [''],
  renames: OFFICIAL_LAYERS.map((layer): Rename => [new RegExp(`^${layer}\\.`), `decoder.layers.${layer - 1}.`]),
  aliases: {},
  ignored: [/^encoder\.layers\./],
  marks: ['decoder.layers.2.conv.0.weight'],
}
