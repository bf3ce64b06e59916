// Causal attention in plain f64 over contiguous k and v: what the paged kernel is compared with.

/** q [heads, headDim] already scaled; k, v [positions, kvHeads, headDim]. Result [heads, headDim]. */
export function attentionReference(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  shape: { heads: number; kvHeads: number; headDim: number },
  positions: number,
): Float64Array {
  const { heads, kvHeads, headDim } = shape;
  const out = new Float64Array(heads * headDim);
  for (let head = 0; head < heads; head++) {
    const kvHead = Math.floor(head / (heads / kvHeads));
    const scores = Array.from({ length: positions }, (_, p) => {
      let sum = 0;
      for (let i = 0; i < headDim; i++)
        sum += (q[head * headDim + i] as number) * (k[(p * kvHeads + kvHead) * headDim + i] as number);
      return sum;
    });
    const most = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - most));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let i = 0; i < headDim; i++) {
      let value = 0;
      for (const [p, weight] of weights.entries())
        value += weight * (v[(p * kvHeads + kvHead) * headDim + i] as number);
      out[head * headDim + i] = value / total;
    }
  }
  return out;
}
