import type { Architecture } from './architectures.js'
import { autoencoderLayout } from './layouts/autoencoder.js'
import { clipLayout } from './layouts/clip.js'
import { fluxLayout } from './layouts/flux.js'
import type { LayoutTensor } from './layouts/layout.js'
import { t5Layout } from './layouts/t5.js'
import { tinyDecoderLayout } from './layouts/tiny-decoder.js'

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
