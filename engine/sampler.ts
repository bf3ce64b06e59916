// From a row of logits to the next token. The order and the semantics are vLLM's: logit bias, token mask, penalties; then greedy, or
// temperature, min_p, top_k (ties with the k-th stay), top_p (renormalised over what is left), and one uniform draw. Double
// precision, passes in order of ids, no sort: the same row and draw give the same token, bit for bit.
// Source: vLLM v1/sample/sampler.py, v1/sample/ops/topk_topp_sampler.py.
import type { TokenCounts } from './penalties.ts';
import { RadixThreshold, type Threshold } from './radixThreshold.ts';
import type { SamplingParams } from './request.ts';

/** Below this a temperature is taken for 0, as in vLLM. */
const GREEDY_TEMPERATURE = 1e-5;

export interface SampleRequest {
  /** [vocabSize], left as it is. */
  logits: Float32Array;
  params: SamplingParams;
  /** null: the sequence has no penalties. */
  counts: TokenCounts | null;
  /** A uniform draw in [0, 1); not asked for when greedy. */
  draw: () => number;
  /** Bit i % 32 of word i / 32: whether token i is allowed. */
  mask?: Uint32Array;
}

export class Sampler {
  /** The row, biased, masked and penalised, [vocabSize]. */
  readonly #logits: Float32Array;
  /** The tokens still possible, ascending, with their logits and weights, [#count]. A weight is relative to the best token's 1. */
  readonly #ids: Int32Array;
  readonly #values: Float32Array;
  readonly #weights: Float64Array;
  #count = 0;
  readonly #threshold = new RadixThreshold();

  constructor(vocabSize: number) {
    this.#logits = new Float32Array(vocabSize);
    this.#ids = new Int32Array(vocabSize);
    this.#values = new Float32Array(vocabSize);
    this.#weights = new Float64Array(vocabSize);
  }

  /** The next token; null when the logits hold NaN or +Infinity, or leave no token possible. */
  sample(request: SampleRequest): number | null {
    const { params } = request;
    const best = this.#prepare(request);
    if (best < 0) return null;
    if (params.temperature < GREEDY_TEMPERATURE) return best;
    // top_k first: it commutes with min_p, since both keep the head of one order, and it spares exponentials.
    this.#keepTopK(params.topK);
    this.#weigh(this.#logits[best]!, params);
    if (params.topP < 1) this.#keepTopP(params.topP);
    return this.#choose(request.draw());
  }

  /** Fills #logits; the best id, or -1. */
  #prepare({ logits, params, counts, mask }: SampleRequest): number {
    const own = this.#logits;
    own.set(logits);
    for (const [id, bias] of params.logitBias) own[id] = own[id]! + bias;
    if (mask) {
      for (let i = 0; i < own.length; i++)
        if (((mask[i >>> 5]! >>> (i & 31)) & 1) === 0) own[i] = Number.NEGATIVE_INFINITY;
    }
    counts?.penalise(own, params);
    let best = -1;
    let max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < own.length; i++) {
      // + 0 turns -0 into 0: equal numbers then have equal bits.
      const logit = own[i]! + 0;
      own[i] = logit;
      if (logit > max) {
        max = logit;
        best = i;
      } else if (!(logit <= max)) return -1;
    }
    return max === Number.POSITIVE_INFINITY ? -1 : best;
  }

  /** Gathers the tokens at or above the k-th value; all for k = 0. */
  #keepTopK(k: number): void {
    const logits = this.#logits;
    const ids = this.#ids;
    const values = this.#values;
    const filters = k > 0 && k < logits.length;
    const least = filters ? this.#threshold.find(logits, null, k)!.value : Number.NEGATIVE_INFINITY;
    let count = 0;
    for (let id = 0; id < logits.length; id++) {
      const value = logits[id]!;
      if (value < least) continue;
      ids[count] = id;
      values[count++] = value;
    }
    this.#count = count;
  }

  /** Weighs what is left, and drops what is below min_p times the best. */
  #weigh(max: number, { temperature, minP }: SamplingParams): void {
    const ids = this.#ids;
    const values = this.#values;
    const weights = this.#weights;
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const value = values[i]!;
      const weight = Math.exp((value - max) / temperature);
      if (weight < minP || weight === 0) continue;
      ids[kept] = ids[i]!;
      values[kept] = value;
      weights[kept++] = weight;
    }
    this.#count = kept;
  }

  /** A token stays while the weight of those before it is below top_p; ties are in order of ids. */
  #keepTopP(topP: number): void {
    const total = this.#total();
    const target = topP * total;
    // Tokens so light that all of them together are less than half of what top_p removes are removed: no need to rank them.
    this.#keepHeavy(((1 - topP) * total) / (2 * this.#count));
    const border = this.#threshold.find(this.#values.subarray(0, this.#count), this.#weights, target);
    if (border) this.#keepHead(border, target);
  }

  #keepHeavy(least: number): void {
    const ids = this.#ids;
    const values = this.#values;
    const weights = this.#weights;
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const weight = weights[i]!;
      if (weight < least) continue;
      ids[kept] = ids[i]!;
      values[kept] = values[i]!;
      weights[kept++] = weight;
    }
    this.#count = kept;
  }

  /** What is above the border, and of what ties with it, by id, as many as it takes to gather `target`. Values are spent. */
  #keepHead({ value: border, above }: Threshold, target: number): void {
    const ids = this.#ids;
    const values = this.#values;
    const weights = this.#weights;
    let before = above;
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const value = values[i]!;
      if (value < border || (value === border && before >= target)) continue;
      const weight = weights[i]!;
      if (value === border) before += weight;
      ids[kept] = ids[i]!;
      weights[kept++] = weight;
    }
    this.#count = kept;
  }

  /** Inverse of the cumulative weight, in order of ids. */
  #choose(draw: number): number {
    const weights = this.#weights;
    const target = draw * this.#total();
    let sum = 0;
    for (let i = 0; i < this.#count; i++) {
      sum += weights[i]!;
      if (sum > target) return this.#ids[i]!;
    }
    return this.#ids[this.#count - 1]!;
  }

  #total(): number {
    const weights = this.#weights;
    let sum = 0;
    for (let i = 0; i < this.#count; i++) sum += weights[i]!;
    return sum;
  }
}
