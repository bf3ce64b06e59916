// Drafts in front of a row count as they would once they had been drawn.
import { describe, expect, it } from 'vitest';
import { ADJUSTMENT_WORDS } from '../wgsl/sample/row.ts';
import { adjustmentsOf, type LogitAdjustments } from './logitAdjustments.ts';
import { GREEDY, type SamplingParams } from './request.ts';

/** By id: count and bits of the bias. */
function told(adjustments: LogitAdjustments, ahead: readonly number[] = []): Map<number, [number, number]> {
  const drafts = Int32Array.from(ahead);
  const size = adjustments.sizeWith(drafts);
  const words = new Uint32Array(3 + size * ADJUSTMENT_WORDS);
  adjustments.write(words, 3, drafts);
  const entries = Array.from({ length: size }, (_, i) => words.subarray(3 + i * ADJUSTMENT_WORDS));
  return new Map(entries.map(([id, count, bias]) => [id!, [count!, bias!]]));
}

const PROMPT = Int32Array.of(1, 2, 3, 2);
const of = (over: Partial<SamplingParams>): LogitAdjustments => adjustmentsOf({ ...GREEDY, ...over }, PROMPT)!;

describe('adjustments with drafts ahead', () => {
  it.each([
    ['frequency', { frequencyPenalty: 0.5 }],
    ['repetition, which the prompt counts for', { repetitionPenalty: 1.2 }],
    ['penalties and a bias', { presencePenalty: 1, logitBias: [[2, 1.5] as const, [9, -1] as const] }],
    ['a bias alone, which counts nothing', { logitBias: [[2, 1.5] as const] }],
  ])('%s: as if they had been drawn', (_, params) => {
    const [ahead, drawn] = [of(params), of(params)];
    for (const adjustments of [ahead, drawn]) for (const id of [5, 2]) adjustments.add(id);
    const drafts = [5, 7, 2, 7, 7];
    const before = told(ahead);
    for (const id of drafts) drawn.add(id);
    expect(told(ahead, drafts)).toEqual(told(drawn));
    expect(told(ahead)).toEqual(before);
  });
});
