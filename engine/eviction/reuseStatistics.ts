// What past reuse says about a block: per class of blocks, how many reached an age unused, and how many of those were used at that age. From
// both follows the value of keeping a block: the most reuse per tick of holding that any time limit would give, from its age on. That
// is the index of Gittins for a block with a known hazard; "hit density" in LHD (Beckmann, Chen, Cidon, NSDI 2018).

/** Bins to an octave of age: fine enough to see where reuse sets in, coarse enough to count something in each. */
const BINS_PER_OCTAVE = 3;
/** Reuse expected in an octave of age before anything was seen. One number for all ages makes the value fall with age: the order of LRU. */
const PRIOR_REUSE_PER_OCTAVE = 0.05;
/** How much seen weighs as much as that expectation, in blocks. */
const PRIOR_WEIGHT_BLOCKS = 100;

/** Bounds of the age bins in ticks: bin b is [bounds[b], bounds[b + 1]), the last one is open. */
export function ageBounds(youngestTicks: number, oldestTicks: number): Float64Array {
  const bounds = [0];
  const octaves = Math.log2(oldestTicks / youngestTicks);
  const steps = Math.max(1, Math.round(octaves * BINS_PER_OCTAVE));
  for (let step = 0; step <= steps; step++) {
    const bound = Math.round(youngestTicks * (oldestTicks / youngestTicks) ** (step / steps));
    if (bound > bounds.at(-1)!) bounds.push(bound);
  }
  return Float64Array.from(bounds);
}

export class ReuseStatistics {
  readonly classes: number;
  readonly bounds: Float64Array;
  readonly bins: number;
  /** What is expected of a class relative to others, [classes]. */
  readonly #priorFactors: readonly number[];
  /** Blocks that came to the bin unused, and those used in it, [classes, bins]. */
  readonly #reached: Float64Array;
  readonly #used: Float64Array;
  /** Value at the beginning of a bin, [classes, bins]. */
  readonly #value: Float64Array;
  readonly #chance: Float64Array;

  constructor(priorFactors: readonly number[], bounds: Float64Array) {
    this.classes = priorFactors.length;
    this.bounds = bounds;
    this.bins = bounds.length;
    this.#priorFactors = priorFactors;
    this.#reached = new Float64Array(this.classes * this.bins);
    this.#used = new Float64Array(this.classes * this.bins);
    this.#value = new Float64Array(this.classes * this.bins);
    this.#chance = new Float64Array(this.bins);
    this.revalue();
  }

  countReached(kind: number, bin: number): void {
    this.#reached[kind * this.bins + bin]! += 1;
  }

  countUsed(kind: number, bin: number): void {
    this.#used[kind * this.bins + bin]! += 1;
  }

  /** Reuse per tick of keeping a block of that class and age: between the bounds of its bin as if on a line. */
  value(kind: number, bin: number, ageTicks: number): number {
    const at = kind * this.bins + bin;
    const from = this.bounds[bin]!;
    const value = this.#value[at]!;
    if (bin === this.bins - 1) return (value * from) / Math.max(from, ageTicks);
    const part = (ageTicks - from) / (this.bounds[bin + 1]! - from);
    return value + part * (this.#value[at + 1]! - value);
  }

  /** What was counted so far weighs `factor` as much from now on. */
  fade(factor: number): void {
    for (let at = 0; at < this.#reached.length; at++) {
      this.#reached[at]! *= factor;
      this.#used[at]! *= factor;
    }
  }

  /** Brings the values up to what has been counted. O(classes × bins²). */
  revalue(): void {
    const { bins, bounds } = this;
    const chance = this.#chance;
    for (let kind = 0; kind < this.classes; kind++) {
      const expected = PRIOR_WEIGHT_BLOCKS * (PRIOR_REUSE_PER_OCTAVE / BINS_PER_OCTAVE) * this.#priorFactors[kind]!;
      for (let bin = 0; bin < bins; bin++) {
        const at = kind * bins + bin;
        chance[bin] = Math.min(1, (this.#used[at]! + expected) / (this.#reached[at]! + PRIOR_WEIGHT_BLOCKS));
      }
      for (let from = 0; from < bins; from++) {
        let unused = 1;
        let reuse = 0;
        let ticks = 0;
        let best = 0;
        for (let bin = from; bin < bins; bin++) {
          // The open bin counts as long as all before it.
          const width = bin < bins - 1 ? bounds[bin + 1]! - bounds[bin]! : bounds[bin]!;
          reuse += unused * chance[bin]!;
          ticks += unused * (1 - chance[bin]! / 2) * width;
          unused *= 1 - chance[bin]!;
          best = Math.max(best, reuse / ticks);
        }
        this.#value[kind * bins + from] = best;
      }
    }
  }
}
