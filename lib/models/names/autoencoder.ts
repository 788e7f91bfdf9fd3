import type { NameTable } from './table.js'

/** Autoencoders in the official names of black-forest-labs/flux, which are those of CompVis/latent-diffusion. */
export const AUTOENCODER_NAMES: NameTable = {
  prefixes: ['first_stage_model.', 'vae.', ''],
  renames: [],
  aliases: {},
  ignored: [],
  marks: ['decoder.conv_in.weight', 'encoder.conv_in.weight', 'decoder.up.0.block.0.conv1.weight'],
}
