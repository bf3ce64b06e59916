// What the sampling kernels are told of one row of logits, what they answer, and where a step's rows lie in memory. The CPU reference reads
// and writes the same words.
import { DISTANCE_CAP, distanceLimit, distanceScale, WEIGHT_ONE } from './weight.ts';

/** Words of a row's instructions; the struct `Row` of the shaders has the same order. */
export const ROW = {
  flags: 0,
  topK: 1,
  /** In units of 2^-32; 0: off. */
  topP: 2,
  limit: 3,
  scale: 4,
  noiseHigh: 5,
  noiseLow: 6,
  /** Id to be scored where nothing is drawn. */
  given: 7,
  /** First word, and number, of the row's adjustments. */
  adjustAt: 8,
  adjustments: 9,
  /** Where the logits that are adjusted are kept: one word each, and one more. */
  keptAt: 10,
  /** Repetition: factor of a seen token's logit above 0, and of one below. */
  above: 11,
  below: 12,
  frequency: 13,
  presence: 14,
  /** Slot that takes the drawn id. */
  slot: 15,
  /** Slot with a drawn id that the adjustments do not count yet. */
  pending: 16,
  top: 17,
  /** Tokens further than this are so light that all of them together are not what top_p keeps. */
  heavy: 18,
} as const;
export const ROW_WORDS = 20;

export const FLAGS = {
  /** Something is asked of the row beyond its logits. */
  wanted: 1,
  /** The best token is taken, or one is drawn; with neither, `given` is scored. */
  greedy: 2,
  sampled: 4,
  logprobs: 8,
  adjusted: 16,
  /** top_k or top_p is on. */
  cut: 32,
} as const;

export const NO_SLOT = 0xffffffff;

/** Words of one adjustment: id, times generated (NOT_SEEN: neither generated nor in the prompt), bias as f32 bits. */
export const ADJUSTMENT_WORDS = 3;
export const NOT_SEEN = 0xffffffff;

/** Most alternatives that a logprob can be told with. */
export const MAX_TOP = 20;

/** Words of a row's answer; from `logit` on only where logprobs are wanted. At `alternatives`, pairs of id and logit bits. */
export const RESULT = {
  id: 0,
  /** 0: the row holds NaN or +Infinity, or leaves nothing possible. */
  valid: 1,
  /** Bits of the unadjusted logits of id and of the best token, and the sum of all weights at temperature 1. */
  logit: 2,
  best: 3,
  sumLow: 4,
  sumHigh: 5,
  alternatives: 8,
} as const;
export const RESULT_WORDS = RESULT.alternatives + 2 * MAX_TOP;

/** Below this a temperature is taken for 0, as in vLLM. */
const GREEDY_TEMPERATURE = 1e-5;

export interface RowInstructions {
  /** null: nothing is drawn. */
  draw: {
    temperature: number;
    topK: number;
    topP: number;
    minP: number;
    frequencyPenalty: number;
    presencePenalty: number;
    repetitionPenalty: number;
    /** 64 random bits. */
    noise: readonly [high: number, low: number];
  } | null;
  given: number;
  /** Alternatives wanted; null: no logprobs. */
  top: number | null;
  slot: number | null;
  pending: number | null;
  adjustAt: number;
  adjustments: number;
  keptAt: number;
}

/** The same memory as integers and as floats. */
export interface Words {
  u32: Uint32Array;
  f32: Float32Array;
}

/** Writes ROW_WORDS words. */
export function writeRow({ u32, f32 }: Words, at: number, row: RowInstructions, vocabSize: number): void {
  const { draw, top, pending, adjustments } = row;
  const greedy = draw !== null && draw.temperature < GREEDY_TEMPERATURE;
  const topK = draw && !greedy && draw.topK < vocabSize ? draw.topK : 0;
  const topP =
    draw && !greedy && draw.topP < 1 ? Math.min(0xffffffff, Math.max(1, Math.floor(draw.topP * 2 ** 32))) : 0;
  let flags: number = FLAGS.wanted;
  if (draw) flags |= greedy ? FLAGS.greedy : FLAGS.sampled;
  if (top !== null) flags |= FLAGS.logprobs;
  if (adjustments > 0 || pending !== null) flags |= FLAGS.adjusted;
  if (topK > 0 || topP > 0) flags |= FLAGS.cut;
  u32[at + ROW.flags] = flags;
  u32[at + ROW.topK] = topK;
  u32[at + ROW.topP] = topP;
  u32[at + ROW.limit] = distanceLimit(draw?.minP ?? 0);
  f32[at + ROW.scale] = draw && !greedy ? distanceScale(draw.temperature) : 1;
  u32[at + ROW.noiseHigh] = draw?.noise[0] ?? 0;
  u32[at + ROW.noiseLow] = draw?.noise[1] ?? 0;
  u32[at + ROW.given] = row.given;
  u32[at + ROW.adjustAt] = row.adjustAt;
  u32[at + ROW.adjustments] = adjustments;
  u32[at + ROW.keptAt] = row.keptAt;
  f32[at + ROW.above] = 1 / (draw?.repetitionPenalty ?? 1);
  f32[at + ROW.below] = draw?.repetitionPenalty ?? 1;
  f32[at + ROW.frequency] = draw?.frequencyPenalty ?? 0;
  f32[at + ROW.presence] = draw?.presencePenalty ?? 0;
  u32[at + ROW.slot] = row.slot ?? NO_SLOT;
  u32[at + ROW.pending] = pending ?? NO_SLOT;
  u32[at + ROW.heavy] = heavyLimit(topP, vocabSize);
  u32[at + ROW.top] = Math.min(top ?? 0, MAX_TOP, vocabSize);
}

/** `topP` in units of 2^-32. Each light token weighs less than what top_p leaves out, divided by the vocabulary; an octave in reserve. */
function heavyLimit(topP: number, vocabSize: number): number {
  const left = 1 - topP / 2 ** 32;
  // Where so little is left out, the rounding of weights would use up the reserve.
  if (left * WEIGHT_ONE < vocabSize) return DISTANCE_CAP - 1;
  return Math.min(DISTANCE_CAP - 1, distanceLimit(left / vocabSize) + 2 ** 16);
}

/** Logits per chunk: one workgroup of the kernels that read whole rows. */
export const CHUNK = 4096;
/** Lanes of those; each reads a tile of CHUNK / SCAN_LANES logits. */
export const SCAN_LANES = 64;

export interface SampleShape {
  vocabSize: number;
  /** f32 from one row of logits to the next; a multiple of 4. */
  stride: number;
  maxRows: number;
  /** Adjusted logits over all rows of a step, with the spare one of each. */
  maxKept: number;
}

/** Where things lie in the kernels' scratch memory, in words. */
export function scratchLayout({ stride, maxRows, maxKept }: SampleShape) {
  const chunks = Math.ceil(stride / CHUNK);
  const chunkBest = 0;
  const tileBest = chunkBest + maxRows * chunks * 2;
  const tileKeys = tileBest + maxRows * chunks * SCAN_LANES * 2;
  const chunkSums = tileKeys + maxRows * chunks * SCAN_LANES;
  const cuts = chunkSums + maxRows * chunks * 3;
  const kept = cuts + maxRows * 2;
  return { chunks, chunkBest, tileBest, tileKeys, chunkSums, cuts, kept, words: kept + maxKept };
}
