import type { DistributionRule, NetworkDefinition } from '../../networks/definition.js'
import type { LayoutTensor } from '../../networks/layout.js'

/** Normal distribution of a tensor's values. */
export interface Distribution {
  mean: number
  standardDeviation: number
  /**
   * a 3x3 kernel that blurs: one normal number per output and input channel, times the binomial kernel (1 2 1) / 4 in
   * both directions
   */
  smooth: boolean
}

const COMMON: DistributionRule[] = [
  { name: /\.bias$/, standardDeviation: 0.05 },
  { roles: ['norm'], mean: 1, standardDeviation: 0.15 },
  { roles: ['embedding'], standardDeviation: 1 },
  { gain: 1 },
]

/** The distribution of a tensor's values in a network with healthy random weights. */
export function distribution(
  { random }: Pick<NetworkDefinition, 'random'>,
  { name, role, shape }: LayoutTensor,
): Distribution {
  const rule = [...random, ...COMMON].find((r) => (r.name?.test(name) ?? true) && (r.roles?.includes(role) ?? true))!
  const smooth = rule.smooth ?? false
  const fanIn = smooth ? shape[1]! : shape.slice(1).reduce((product, size) => product * size, 1)
  return { mean: rule.mean ?? 0, standardDeviation: rule.standardDeviation ?? rule.gain! / Math.sqrt(fanIn), smooth }
}
