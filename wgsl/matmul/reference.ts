// The same product in plain f64, from the values that the packed matrix stands for: what a kernel is compared with.

/** out[token, row] = Σ_k weights[row, k] · x[token, k]; weights [rows, cols], x [tokens, cols]. */
export function matmulReference(
  weights: Float32Array,
  x: Float32Array,
  rows: number,
  cols: number,
  tokens: number,
): Float64Array {
  const out = new Float64Array(tokens * rows);
  for (let token = 0; token < tokens; token++)
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let k = 0; k < cols; k++) sum += (weights[row * cols + k] as number) * (x[token * cols + k] as number);
      out[token * rows + row] = sum;
    }
  return out;
}
