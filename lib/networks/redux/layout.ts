import { completeConfig, type ConfigRules } from '../config-rules.js'
import { linear, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/** The configuration of Redux's projector. The names are those of `ReduxImageEncoder` in black-forest-labs/flux. */
export interface ReduxConfig {
  /** numbers of a state of the vision tower */
  reduxDim: number
  /** numbers of a text token of the transformer */
  txtInFeatures: number
}

export const REDUX_RULES: ConfigRules<ReduxConfig> = {
  reduxDim: { kind: 'integer', min: 1, max: 8192 },
  txtInFeatures: { kind: 'integer', min: 1, max: 8192 },
}

/** All tensors, in the order of the official file. */
export function reduxLayout({ reduxDim, txtInFeatures }: ReduxConfig): LayoutTensor[] {
  const biasFirst = (name: string, out: number, input: number) => linear(name, out, input).toReversed()
  return [
    ...biasFirst('redux_down', txtInFeatures, 3 * txtInFeatures),
    ...biasFirst('redux_up', 3 * txtInFeatures, reduxDim),
  ]
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function reduxConfig(tensors: Map<string, TensorShape>, overrides?: Partial<ReduxConfig>): ReduxConfig {
  const reduxDim = shapeOf(tensors, 'redux_up.weight', 2)[1]!
  const txtInFeatures = shapeOf(tensors, 'redux_down.weight', 2)[0]!
  return completeConfig<ReduxConfig>({ reduxDim, txtInFeatures }, REDUX_RULES, overrides)
}
