// The definition of sampling, on the CPU and by sorting: what the kernels must give bit for bit, from the same words. Order and semantics are
// vLLM's: bias, penalties; then greedy, or temperature, min_p, top_k (ties with the k-th stay), top_p over what is left, one uniform draw.
// Sources: vLLM v1/sample/sampler.py, v1/sample/ops/topk_topp_sampler.py.
import { adjustedLogit } from './adjust.ts';
import { ADJUSTMENT_WORDS, FLAGS, NO_SLOT, NOT_SEEN, RESULT, RESULT_WORDS, ROW, type Words } from './row.ts';
import {
  canonicalBits,
  DISTANCE_CAP,
  distanceOf,
  distanceScale,
  IMPOSSIBLE,
  INVALID,
  orderedKey,
  weightOf,
} from './weight.ts';

/** A row's canonical logits. */
class Row {
  readonly bits: Uint32Array;
  readonly values: Float32Array;
  best = 0;

  constructor(logits: Float32Array) {
    this.values = logits.slice();
    this.bits = new Uint32Array(this.values.buffer);
    for (const [id, bits] of this.bits.entries()) this.bits[id] = canonicalBits(bits);
    for (const id of this.bits.keys()) if (this.key(id) > this.key(this.best)) this.best = id;
  }

  key(id: number): number {
    return orderedKey(this.bits[id]!);
  }

  get valid(): boolean {
    return ![INVALID, IMPOSSIBLE].includes(this.bits[this.best]!);
  }

  distance(id: number, scale: number): number {
    return distanceOf(this.values[this.best]!, this.values[id]!, scale);
  }
}

/**
 * Answers the row whose instructions stand at `at` of `rows`: RESULT_WORDS words. `logits` [vocabSize] stay as they are; the drawn id
 * goes to its slot.
 */
export function sampleReference(
  logits: Float32Array,
  rows: Words,
  at: number,
  adjustments: Words,
  slots: Uint32Array,
): Uint32Array {
  const result = new Uint32Array(RESULT_WORDS);
  const word = (name: keyof typeof ROW): number => rows.u32[at + ROW[name]]!;
  const flags = word('flags');
  const raw = new Row(logits);
  const row = (flags & FLAGS.adjusted) === 0 ? raw : new Row(adjust(logits, rows, at, adjustments, slots));
  let id = word('given');
  if ((flags & FLAGS.greedy) !== 0) id = row.best;
  else if ((flags & FLAGS.sampled) !== 0 && row.valid) id = draw(row, rows.f32[at + ROW.scale]!, word);
  result[RESULT.id] = id;
  result[RESULT.valid] = row.valid ? 1 : 0;
  if ((flags & FLAGS.logprobs) !== 0) score(raw, id, word('top'), result);
  if (word('slot') !== NO_SLOT) slots[word('slot')] = id;
  return result;
}

function adjust(logits: Float32Array, rows: Words, at: number, adjustments: Words, slots: Uint32Array): Float32Array {
  const adjusted = logits.slice();
  const factors = {
    above: rows.f32[at + ROW.above]!,
    below: rows.f32[at + ROW.below]!,
    frequency: rows.f32[at + ROW.frequency]!,
    presence: rows.f32[at + ROW.presence]!,
  };
  const slot = rows.u32[at + ROW.pending]!;
  const pending = slot === NO_SLOT ? null : slots[slot]!;
  const first = rows.u32[at + ROW.adjustAt]!;
  const seen = new Map<number, { bias: number; count: number | null }>();
  for (let i = 0; i < rows.u32[at + ROW.adjustments]!; i++) {
    const entry = first + i * ADJUSTMENT_WORDS;
    const count = adjustments.u32[entry + 1]!;
    seen.set(adjustments.u32[entry]!, {
      bias: adjustments.f32[entry + 2]!,
      count: count === NOT_SEEN ? null : count,
    });
  }
  if (pending !== null) {
    const { bias, count } = seen.get(pending) ?? { bias: 0, count: null };
    seen.set(pending, { bias, count: (count ?? 0) + 1 });
  }
  for (const [id, { bias, count }] of seen) adjusted[id] = adjustedLogit(logits[id]!, bias, count, factors);
  return adjusted;
}

function draw(row: Row, scale: number, word: (name: keyof typeof ROW) => number): number {
  let left = [...row.bits.keys()]
    .map((id) => ({ id, distance: row.distance(id, scale) }))
    .filter(({ distance }) => distance <= word('limit'))
    .sort((a, b) => a.distance - b.distance || a.id - b.id);
  const kth = word('topK') > 0 ? left[word('topK') - 1] : undefined;
  if (kth) left = left.filter(({ distance }) => distance <= kth.distance);
  let border = DISTANCE_CAP;
  if (word('topP') > 0) {
    const total = left.reduce((sum, { distance }) => sum + weightOf(distance), 0);
    const goal = Math.max(1, Number((BigInt(total) * BigInt(word('topP'))) >> 32n));
    let before = 0;
    left = left.filter(({ distance }) => {
      const stays = before < goal;
      before += weightOf(distance);
      return stays;
    });
    border = left.at(-1)!.distance;
  }
  // What is on the border comes last; all else in order of ids.
  left.sort((a, b) => Number(a.distance >= border) - Number(b.distance >= border) || a.id - b.id);
  const total = left.reduce((sum, { distance }) => sum + weightOf(distance), 0);
  const noise = (BigInt(word('noiseHigh')) << 32n) | BigInt(word('noiseLow'));
  const target = Number((noise * BigInt(total)) >> 64n);
  let sum = 0;
  return left.find(({ distance }) => {
    sum += weightOf(distance);
    return sum > target;
  })!.id;
}

function score(raw: Row, id: number, top: number, result: Uint32Array): void {
  const scale = distanceScale(1);
  let sum = 0;
  for (const id of raw.bits.keys()) sum += weightOf(raw.distance(id, scale));
  result[RESULT.logit] = raw.bits[id]!;
  result[RESULT.best] = raw.bits[raw.best]!;
  result[RESULT.sumLow] = sum % 2 ** 32;
  result[RESULT.sumHigh] = Math.floor(sum / 2 ** 32);
  const ranked = [...raw.bits.keys()].sort((a, b) => raw.key(b) - raw.key(a) || a - b).slice(0, top);
  for (const [i, id] of ranked.entries()) {
    result[RESULT.alternatives + 2 * i] = id;
    result[RESULT.alternatives + 2 * i + 1] = raw.bits[id]!;
  }
}
