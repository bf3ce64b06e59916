import { describe, expect, it } from 'vitest';
import { LOGPROB_FLOOR, positionLogprob } from './logprobs.ts';
import { seedKey, uniformNoise } from './noise.ts';

const key = seedKey('5');
const row = (count: number, stream: number, levels: number) =>
  Float32Array.from(
    { length: count },
    (_, i) => Math.floor(uniformNoise(key, stream, i) * levels) / (levels / 24) - 12,
  );

/** log-softmax with exactly compensated sums. */
function reference(logits: Float32Array): number[] {
  let sum = 0;
  let lost = 0;
  for (const term of [...logits].sort((a, b) => a - b).map((logit) => Math.exp(logit - 12))) {
    const next = sum + (term - lost);
    lost = next - sum - (term - lost);
    sum = next;
  }
  return [...logits].map((logit) => logit - 12 - Math.log(sum));
}

describe('logprobs', () => {
  it('are the log-softmax of the raw logits to 1e-12, with the best alternatives in order and ties to the lower id', () => {
    for (let stream = 0; stream < 20; stream++) {
      const logits = row(500, stream, stream % 2 ? 30 : 1e6);
      const expected = reference(logits);
      const best = expected
        .map((logprob, id) => ({ id, logprob }))
        .sort((a, b) => b.logprob - a.logprob || a.id - b.id);
      const id = (stream * 37) % 500;
      const told = positionLogprob(logits, id, 20)!;
      expect(told.id).toBe(id);
      expect(Math.abs(told.logprob! - expected[id]!)).toBeLessThan(1e-12);
      expect(told.top.map(([other]) => other)).toEqual(best.slice(0, 20).map((entry) => entry.id));
      told.top.forEach(([other, logprob]) => {
        expect(Math.abs(logprob - expected[other]!)).toBeLessThan(1e-12);
      });
    }
  });

  it('tells no alternatives when none are wanted, and never more than there are', () => {
    const logits = Float32Array.from([1, 2, 3]);
    expect(positionLogprob(logits, 0, 0)!.top).toEqual([]);
    expect(positionLogprob(logits, 0, 20)!.top.map(([id]) => id)).toEqual([2, 1, 0]);
  });

  it('floors what is impossible, and stays exact with large logits', () => {
    const logits = Float32Array.from([Number.NEGATIVE_INFINITY, 3e38, 3e38]);
    expect(positionLogprob(logits, 0, 1)!.logprob).toBe(LOGPROB_FLOOR);
    expect(positionLogprob(logits, 1, 1)!.logprob).toBeCloseTo(Math.log(0.5), 12);
  });

  it.each([[[Number.NaN, 1]], [[1, Number.POSITIVE_INFINITY]], [[Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]]])(
    'refuses the row %j',
    (logits) => {
      expect(positionLogprob(Float32Array.from(logits), 0, 1)).toBeNull();
    },
  );
});
