import type { NetworkKind } from '../../native/addon.js'
import type { LayoutTensor, TensorRole } from '../../networks/layout.js'

/** Normal distribution of a tensor's values. */
export interface Distribution {
  mean: number
  standardDeviation: number
  /** a 3x3 kernel that blurs: one normal number per output and input channel, times the binomial kernel (1 2 1) / 4 in both directions */
  smooth: boolean
}

interface DistributionRule {
  name?: RegExp
  roles?: TensorRole[]
  /** standard deviation times sqrt(fan-in) */
  gain?: number
  standardDeviation?: number
  mean?: number
  smooth?: true
}

const COMMON: DistributionRule[] = [
  { name: /\.bias$/, standardDeviation: 0.05 },
  { roles: ['norm'], mean: 1, standardDeviation: 0.15 },
  { roles: ['embedding'], standardDeviation: 1 },
  { gain: 1 },
]

/**
 * Scales that keep activations of order one at any depth; the first rule that holds decides, then the common ones. A gain of 1 passes the
 * size of its input on.
 */
const RULES: Record<NetworkKind, DistributionRule[]> = {
  flux: [
    // scales, shifts and gates of every block: gates of order 1/2 let 57 blocks add up to a few times the input
    { name: /(mod|modulation)\.lin\.weight$|adaLN_modulation\.1\.weight$/, gain: 0.5 },
    // SiLU between the two layers takes away about half
    { name: /^(time|vector|guidance)_in\..*\.weight$/, gain: 1.5 },
  ],
  // T5 does not divide scores by sqrt(d_kv): its query weights are that much smaller
  t5: [{ name: /SelfAttention\.q\.weight$/, gain: 1 / 8 }],
  clip: [
    { name: /token_embedding/, standardDeviation: 0.6 },
    { name: /position_embedding/, standardDeviation: 0.4 },
  ],
  autoencoder: [
    // independent kernel values make a picture of single-pixel noise: kernels that blur and weak residuals make soft patches of colour
    { name: /(upsample\.conv|decoder\.conv_out)\.weight$/, gain: 1, smooth: true },
    { name: /(conv2|proj_out)\.weight$/, gain: 0.4 },
  ],
  // half of what a ReLU gets is taken away; blocks add up
  'tiny-decoder': [
    { name: /\.conv\.4\.weight$/, gain: 0.4 },
    { name: /\.conv\.[02]\.weight$/, gain: 1.4 },
  ],
}

/** How the values of a tensor are distributed in a network with healthy random weights. */
export function distribution(kind: NetworkKind, { name, role, shape }: LayoutTensor): Distribution {
  const rule = [...RULES[kind], ...COMMON].find(
    (r) => (r.name?.test(name) ?? true) && (r.roles?.includes(role) ?? true),
  )!
  const smooth = rule.smooth ?? false
  const fanIn = smooth ? shape[1]! : shape.slice(1).reduce((product, size) => product * size, 1)
  return { mean: rule.mean ?? 0, standardDeviation: rule.standardDeviation ?? rule.gain! / Math.sqrt(fanIn), smooth }
}
