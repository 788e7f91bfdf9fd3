import type { FluxTransformer, PredictInput } from '../../lib/nn.js'

export function anyInput(flux: Pick<FluxTransformer, 'config'>, side: number, text: number): PredictInput
