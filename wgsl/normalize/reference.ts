// The norm before a matrix on the CPU: the sum of hidden and delta as f32 has it, RMSNorm of it in f64 (arXiv 1910.07467).

/** One token's rows, [width] each. `sum` is what stays in hidden; `normed` are the values of the next matrix' activations. */
export function normalizeReference(
  hidden: Float32Array,
  delta: Float32Array,
  weight: Float32Array,
  epsilon: number,
): { sum: Float32Array; normed: Float64Array } {
  const sum = hidden.map((value, i) => value + delta[i]!);
  const squares = sum.reduce((total, value) => total + value * value, 0);
  const factor = 1 / Math.sqrt(squares / sum.length + epsilon);
  return { sum, normed: Float64Array.from(sum, (value, i) => value * factor * weight[i]!) };
}
