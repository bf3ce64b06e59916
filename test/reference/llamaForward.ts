// The whole forward pass of a llama model on the CPU: readable, slow, f32 between operations and f64 inside a sum. It knows the model
// file and nothing of our kernels, blocks or batches: the ground truth that the GPU is compared with.
import { readRows } from '../../engine/model/dequantize.ts';
import type { ModelConfig, ModelFile, TensorInfo } from '../../engine/model/types.ts';

/** Logits of every position, [tokens, vocab], for one sequence from position 0. */
export async function llamaForward(file: ModelFile, tokens: readonly number[]): Promise<Float32Array> {
  const { config } = file;
  const { hidden, heads, kvHeads, headDim, feedForward } = config;
  const count = tokens.length;
  const scaling = file.tensors.get('rope_freqs.weight');
  const factors = scaling ? await readRows(file, scaling) : new Float32Array(config.ropeDim / 2).fill(1);
  const stream = new Float32Array(count * hidden);
  const embedding = tensor(file, 'token_embd.weight');
  for (const [t, id] of tokens.entries()) stream.set(await readRows(file, embedding, id, 1), t * hidden);
  for (let layer = 0; layer < config.layers; layer++) {
    const weight = (name: string): TensorInfo => tensor(file, `blk.${layer}.${name}.weight`);
    const normed = await rmsNorm(file, weight('attn_norm'), stream);
    const q = await matmul(file, weight('attn_q'), normed, count);
    const k = await matmul(file, weight('attn_k'), normed, count);
    const v = await matmul(file, weight('attn_v'), normed, count);
    rope(q, heads, config, factors, count);
    rope(k, kvHeads, config, factors, count);
    const mixed = attention(q, k, v, count, heads, kvHeads, headDim);
    add(stream, await matmul(file, weight('attn_output'), mixed, count));
    const inner = await rmsNorm(file, weight('ffn_norm'), stream);
    const gate = await matmul(file, weight('ffn_gate'), inner, count);
    const up = await matmul(file, weight('ffn_up'), inner, count);
    const product = new Float32Array(count * feedForward);
    for (let i = 0; i < product.length; i++) {
      const g = gate[i] as number;
      product[i] = (g / (1 + Math.exp(-g))) * (up[i] as number);
    }
    add(stream, await matmul(file, weight('ffn_down'), product, count));
  }
  const last = await rmsNorm(file, tensor(file, 'output_norm.weight'), stream);
  return matmul(file, config.tiedHead ? embedding : tensor(file, 'output.weight'), last, count);
}

/** Natural log-softmax probability of `id` in one row of logits. */
export function logprob(row: Float32Array, id: number): number {
  let most = Number.NEGATIVE_INFINITY;
  for (const value of row) most = Math.max(most, value);
  let sum = 0;
  for (const value of row) sum += Math.exp(value - most);
  return (row[id] as number) - most - Math.log(sum);
}

function tensor(file: ModelFile, name: string): TensorInfo {
  const found = file.tensors.get(name);
  if (!found) throw new Error(`the model has no tensor ${name}`);
  return found;
}

/** out[t, r] = Σ_k weight[r, k] · x[t, k]. */
async function matmul(file: ModelFile, info: TensorInfo, x: Float32Array, count: number): Promise<Float32Array> {
  const { rows: outRows, cols } = info;
  const out = new Float32Array(count * outRows);
  const chunk = 256;
  for (let first = 0; first < outRows; first += chunk) {
    const part = Math.min(chunk, outRows - first);
    const weights = await readRows(file, info, first, part);
    for (let r = 0; r < part; r++) {
      const row = weights.subarray(r * cols, (r + 1) * cols);
      for (let t = 0; t < count; t++) out[t * outRows + first + r] = dot(row, x, t * cols);
    }
  }
  return out;
}

function dot(row: Float32Array, x: Float32Array, at: number): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let k = 0; k < row.length; k += 4) {
    a += (row[k] as number) * (x[at + k] as number);
    b += (row[k + 1] as number) * (x[at + k + 1] as number);
    c += (row[k + 2] as number) * (x[at + k + 2] as number);
    d += (row[k + 3] as number) * (x[at + k + 3] as number);
  }
  return a + b + (c + d);
}

async function rmsNorm(file: ModelFile, info: TensorInfo, x: Float32Array): Promise<Float32Array> {
  const weight = await readRows(file, info, 0, 1);
  const out = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += info.cols) {
    let squares = 0;
    for (let i = 0; i < info.cols; i++) squares += (x[at + i] as number) ** 2;
    const factor = 1 / Math.sqrt(squares / info.cols + file.config.rmsEpsilon);
    for (let i = 0; i < info.cols; i++) out[at + i] = (x[at + i] as number) * factor * (weight[i] as number);
  }
  return out;
}

/** Rotates adjacent pairs of the first ropeDim dims of each head by position · theta^(-2i / ropeDim), over both scalings. */
function rope(x: Float32Array, heads: number, config: ModelConfig, factors: Float32Array, count: number): void {
  const { headDim, ropeDim, ropeTheta, ropeScale } = config;
  for (let t = 0; t < count; t++)
    for (let head = 0; head < heads; head++)
      for (let pair = 0; pair < ropeDim / 2; pair++) {
        const at = (t * heads + head) * headDim + 2 * pair;
        const angle = ((t / ropeScale) * ropeTheta ** ((-2 * pair) / ropeDim)) / (factors[pair] as number);
        const [a, b] = [x[at] as number, x[at + 1] as number];
        x[at] = a * Math.cos(angle) - b * Math.sin(angle);
        x[at + 1] = a * Math.sin(angle) + b * Math.cos(angle);
      }
}

function attention(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  count: number,
  heads: number,
  kvHeads: number,
  headDim: number,
): Float32Array {
  const out = new Float32Array(count * heads * headDim);
  const scores = new Float64Array(count);
  for (let t = 0; t < count; t++)
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const qAt = (t * heads + head) * headDim;
      const kvAt = (position: number): number => (position * kvHeads + kvHead) * headDim;
      let most = Number.NEGATIVE_INFINITY;
      for (let p = 0; p <= t; p++) {
        scores[p] = dot(k.subarray(kvAt(p), kvAt(p) + headDim), q, qAt) / Math.sqrt(headDim);
        most = Math.max(most, scores[p] as number);
      }
      let sum = 0;
      for (let p = 0; p <= t; p++) {
        scores[p] = Math.exp((scores[p] as number) - most);
        sum += scores[p] as number;
      }
      for (let i = 0; i < headDim; i++) {
        let value = 0;
        for (let p = 0; p <= t; p++) value += (scores[p] as number) * (v[kvAt(p) + i] as number);
        out[qAt + i] = value / sum;
      }
    }
  return out;
}

function add(into: Float32Array, from: Float32Array): void {
  for (let i = 0; i < into.length; i++) into[i] = (into[i] as number) + (from[i] as number);
}
