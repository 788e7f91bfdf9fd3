import type { NetworkDefinition } from '../definition.js'
import { productFlops } from '../flops.js'
import { REDUX_RULES, reduxConfig, reduxLayout, type ReduxConfig } from './layout.js'
import { REDUX_NAMES } from './names.js'

/** The projector of FLUX.1 Redux. Examples: black-forest-labs/FLUX.1-Redux-dev on huggingface.co. */
export const REDUX: NetworkDefinition<ReduxConfig, 'redux'> = {
  kind: 'redux',
  label: 'a FLUX Redux image adapter',
  role: 'redux',
  names: REDUX_NAMES,
  rules: REDUX_RULES,
  readConfig: reduxConfig,
  layout: reduxLayout,
  nativeConfig: (config) => ({ ...config }),
  flops: (config, [states]: readonly [number]) => ({
    products: productFlops(reduxLayout(config), () => states),
    attention: 0,
  }),
  gguf: { architecture: 'redux' },
  keep: [],
  // SiLU between the two layers removes about half
  random: [{ name: /\.weight$/, gain: 1.5 }],
  examples: {
    redux: { reduxDim: 1152, txtInFeatures: 4096 },
    'redux-tiny': { reduxDim: 64, txtInFeatures: 256 },
  },
}
