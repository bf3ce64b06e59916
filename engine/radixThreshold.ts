// The smallest of the largest: given float32 values with weights, finds the value down to which one must go, from the top, to gather
// a target weight. Two passes over a 16-bit radix of the ordered bit pattern instead of a sort: O(n), exact, and the same bits on
// every machine. With weights of 1 it is the k-th largest value (top-k); with probabilities, the border of a nucleus (top-p).
import { invariant } from './invariant.ts';

const RADIX = 0x10000;

/** Maps a float's bits to an unsigned number of the same order. */
function ordered(bits: number): number {
  return ((bits & 0x8000_0000) !== 0 ? ~bits : bits | 0x8000_0000) >>> 0;
}

export interface Threshold {
  value: number;
  /** Weight of all values above `value`. */
  above: number;
}

export class RadixThreshold {
  readonly #bins = new Float64Array(RADIX);
  readonly #float = new Float32Array(1);
  readonly #floatBits = new Uint32Array(this.#float.buffer);

  /**
   * The largest value v such that the weights of all values ≥ v sum to at least `target`; null when all together do not.
   * `weights`: one per value, not negative; null: 1 each. `values` holds no NaN and no -0.
   */
  find(values: Float32Array, weights: Float64Array | null, target: number): Threshold | null {
    invariant(!weights || weights.length >= values.length, 'one weight per value');
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const bins = this.#bins;
    let low = RADIX;
    let high = -1;
    for (let i = 0; i < bits.length; i++) {
      const bin = ordered(bits[i]!) >>> 16;
      bins[bin]! += weights ? weights[i]! : 1;
      if (bin < low) low = bin;
      if (bin > high) high = bin;
    }
    let above = 0;
    let crossing = high;
    while (crossing >= low && above + bins[crossing]! < target) above += bins[crossing--]!;
    if (high >= 0) bins.fill(0, low, high + 1);
    if (crossing < low) return null;

    let fineLow = RADIX;
    let fineHigh = -1;
    for (let i = 0; i < bits.length; i++) {
      const key = ordered(bits[i]!);
      if (key >>> 16 !== crossing) continue;
      const bin = key & 0xffff;
      bins[bin]! += weights ? weights[i]! : 1;
      if (bin < fineLow) fineLow = bin;
      if (bin > fineHigh) fineHigh = bin;
    }
    let fine = fineHigh;
    // Rounding may leave the finer sum a hair under the coarser one: the lowest value of the bin is the border then.
    while (fine > fineLow && above + bins[fine]! < target) above += bins[fine--]!;
    bins.fill(0, fineLow, fineHigh + 1);
    return { value: this.#value(((crossing << 16) | fine) >>> 0), above };
  }

  #value(key: number): number {
    this.#floatBits[0] = (key & 0x8000_0000) !== 0 ? key & 0x7fff_ffff : ~key >>> 0;
    return this.#float[0]!;
  }
}
