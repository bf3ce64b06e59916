// From a row of logits to the next token. The order and the semantics are vLLM's: logit bias, token mask, penalties; then greedy, or
// temperature, min_p, top_k (ties with the k-th stay), top_p (renormalised over what is left), and one uniform draw. All in double
// precision, by passes in id order, without a sort: the same row and draw give the same token, bit for bit.
// Source: vLLM v1/sample/sampler.py, v1/sample/ops/topk_topp_sampler.py.
import type { TokenCounts } from './penalties.ts';
import { RadixThreshold } from './radixThreshold.ts';
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
  readonly #logits: Float32Array;
  readonly #weights: Float64Array;
  readonly #counted: Float64Array;
  readonly #threshold = new RadixThreshold();

  constructor(vocabSize: number) {
    this.#logits = new Float32Array(vocabSize);
    this.#weights = new Float64Array(vocabSize);
    this.#counted = new Float64Array(vocabSize);
  }

  /** The next token; null when the logits hold NaN or +Infinity, or leave no token possible. */
  sample(request: SampleRequest): number | null {
    const { params } = request;
    const best = this.#prepare(request);
    if (best < 0) return null;
    if (params.temperature < GREEDY_TEMPERATURE) return best;
    this.#weigh(best, params);
    if (params.topK > 0 && params.topK < this.#logits.length) this.#keepTopK(params.topK);
    if (params.topP < 1) this.#keepTopP(params.topP);
    return this.#choose(request.draw());
  }

  /** Copies the row, biased, masked and penalised; the best id, or -1. */
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

  /** Weights relative to the best token's 1; 0 for what min_p removes. */
  #weigh(best: number, { temperature, minP }: SamplingParams): void {
    const max = this.#logits[best]!;
    for (let i = 0; i < this.#logits.length; i++) {
      const weight = Math.exp((this.#logits[i]! - max) / temperature);
      this.#weights[i] = weight < minP ? 0 : weight;
    }
  }

  #keepTopK(k: number): void {
    for (let i = 0; i < this.#weights.length; i++) this.#counted[i] = this.#weights[i]! > 0 ? 1 : 0;
    const border = this.#threshold.find(this.#logits, this.#counted, k);
    if (!border) return;
    for (let i = 0; i < this.#weights.length; i++) if (this.#logits[i]! < border.value) this.#weights[i] = 0;
  }

  /** A token stays while the weight of those before it is below top_p; ties are in order of ids. */
  #keepTopP(topP: number): void {
    const target = topP * this.#total();
    const border = this.#threshold.find(this.#logits, this.#weights, target);
    if (!border) return;
    let before = border.above;
    for (let i = 0; i < this.#weights.length; i++) {
      const logit = this.#logits[i]!;
      if (logit > border.value) continue;
      if (logit < border.value || before >= target) this.#weights[i] = 0;
      else before += this.#weights[i]!;
    }
  }

  /** Inverse of the cumulative weight, in order of ids. */
  #choose(draw: number): number {
    const target = draw * this.#total();
    let sum = 0;
    let last = -1;
    for (let i = 0; i < this.#weights.length; i++) {
      const weight = this.#weights[i]!;
      if (weight === 0) continue;
      sum += weight;
      last = i;
      if (sum > target) return i;
    }
    return last;
  }

  #total(): number {
    let sum = 0;
    for (let i = 0; i < this.#weights.length; i++) sum += this.#weights[i]!;
    return sum;
  }
}
