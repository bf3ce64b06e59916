// Counts by powers of two: enough to see a distribution over nine decades in a few dozen numbers.

/** Bucket i > 0 counts values in [2^(i-1), 2^i); bucket 0 those below 1; the last whatever is above. */
const BUCKETS = 40;

export interface HistogramStatus {
  count: number;
  sum: number;
  /** Cumulative, as Prometheus has it: how many values are below `below`. Only up to the last bucket that holds any. */
  buckets: { below: number; count: number }[];
}

export class Log2Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sum = 0;

  /** `value` ≥ 0. */
  add(value: number): void {
    const bucket = value < 1 ? 0 : value < 2 ** 31 ? 32 - Math.clz32(value) : Math.floor(Math.log2(value)) + 1;
    this.#counts[Math.min(bucket, BUCKETS - 1)]! += 1;
    this.#count += 1;
    this.#sum += value;
  }

  status(): HistogramStatus {
    const buckets: { below: number; count: number }[] = [];
    let count = 0;
    for (let i = 0; count < this.#count; i++) {
      count += this.#counts[i]!;
      buckets.push({ below: i === BUCKETS - 1 ? Number.POSITIVE_INFINITY : 2 ** i, count });
    }
    return { count: this.#count, sum: this.#sum, buckets };
  }
}
