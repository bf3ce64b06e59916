// What was told decides what may follow, and whether another pool could go on from it.
import { expect, test } from 'vitest';
import { ByteBudget } from '../byteBudget.ts';
import { Told } from './told.ts';

const usage = { prompt_tokens: 2, cached_tokens: 0, completion_tokens: 0 };
const told = (choices = 1) => new Told(choices, new ByteBudget(1024).share(0, 1));
const delta = { type: 'delta' as const, choice: 0, text: 'x', usage };

test('tokens with ids are gone on from; those of an engine that tells none are not', () => {
  const known = told();
  known.prompt({ type: 'prompt', prompts: [[1, 2]], prompt_tokens: 2 });
  known.delta({ ...delta, position: 0, ids: [7] });
  expect(known.resume('f')?.choices).toEqual([{ ids: [7], finish_reason: null }]);
  for (const prompt_tokens of [2, null]) {
    const foreign = told();
    expect(foreign.prompt({ type: 'prompt', prompts: [], prompt_tokens })).toBe(true);
    foreign.delta({ ...delta, position: 0, ids: [], count: 2 });
    expect([foreign.begun, foreign.resume('f')]).toEqual([true, null]);
    expect(foreign.released).toMatchObject({ inputTokens: prompt_tokens ?? 0, positions: [2] });
  }
});

test('positions without ids follow one another like others', () => {
  const counted = told();
  expect(counted.delta({ ...delta, position: 0, ids: [], count: 3 })).toEqual({ first: true });
  expect(counted.delta({ ...delta, position: 1, ids: [], count: 1 })).toBeNull();
  expect(counted.delta({ ...delta, position: 3, ids: [], count: 1 })).toEqual({ first: false });
});
