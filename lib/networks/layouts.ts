import type { Architecture } from './architectures.js'
import { autoencoderLayout } from './autoencoder/layout.js'
import { clipLayout } from './clip/layout.js'
import { fluxLayout } from './flux/layout.js'
import type { LayoutTensor } from './layout.js'
import { t5Layout } from './t5/layout.js'
import { tinyDecoderLayout } from './taesd/layout.js'

/** The tensors of a network in canonical names and official order. */
export function layoutOf(architecture: Architecture): LayoutTensor[] {
  switch (architecture.kind) {
    case 'flux':
      return fluxLayout(architecture.config)
    case 't5':
      return t5Layout(architecture.config)
    case 'clip':
      return clipLayout(architecture.config)
    case 'autoencoder':
      return autoencoderLayout(architecture.config)
    case 'tiny-decoder':
      return tinyDecoderLayout(architecture.config)
  }
}
