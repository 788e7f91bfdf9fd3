/** Returns x + factor * direction as a new array. */
export function addScaled(x: Float32Array, direction: Float32Array, factor: number): Float32Array {
  const sum = new Float32Array(x.length)
  for (let i = 0; i < sum.length; i++) sum[i] = x[i]! + factor * direction[i]!
  return sum
}

export type Term = readonly [factor: number, values: Float32Array]

/** Returns the sum of factor * values as a new array. Each element is summed in float64 and rounded once. */
export function combine(...terms: Term[]): Float32Array {
  const sum = new Float32Array(terms[0]![1].length)
  for (let i = 0; i < sum.length; i++) {
    let element = 0
    for (const term of terms) element += term[0] * term[1][i]!
    sum[i] = element
  }
  return sum
}
