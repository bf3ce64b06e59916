// Sampling noise as a function, not a stream: Philox4x32-10 keyed by the seed, counted by (position, choice). The draw of a
// position does not depend on what was drawn before it, so a preempted, resumed or speculated sequence draws the same tokens.
// Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC'11), and Random123's known-answer vectors.
import { invariant } from './invariant.ts';

const ROUNDS = 10;
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const MAX_SEED = 0xffff_ffff_ffff_ffffn;

export type PhiloxKey = readonly [low: number, high: number];
export type PhiloxCounter = readonly [number, number, number, number];

/** Upper 32 bits of the 64-bit product of two unsigned 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Each partial product and sum stays under 2^53, so doubles hold them exactly.
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 0x10000);
  const cross = aLow * bHigh + (middle % 0x10000);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}

/** Four unsigned 32-bit words for a 128-bit counter under a 64-bit key. */
export function philox4x32(counter: PhiloxCounter, key: PhiloxKey): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Reads an unsigned 64-bit decimal number, as `SamplingParams.seed` carries it. */
export function seedKey(seed: string): PhiloxKey {
  invariant(/^\d{1,20}$/.test(seed), 'a seed is an unsigned 64-bit decimal number');
  const value = BigInt(seed);
  invariant(value <= MAX_SEED, 'a seed is an unsigned 64-bit decimal number');
  return [Number(value & 0xffff_ffffn), Number(value >> 32n)];
}

/** The 64 random bits of one output position. */
export function positionNoise(key: PhiloxKey, choice: number, position: number): readonly [high: number, low: number] {
  const [high, low] = philox4x32([position >>> 0, 0, choice >>> 0, 0], key);
  return [high, low];
}
