// What was told decides what may follow, and whether another pool could go on from it.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
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
  counted.prompt({ type: 'prompt', prompts: [], prompt_tokens: 2 });
  expect(counted.delta({ ...delta, position: 0, ids: [], count: 3 })).toEqual({ first: true });
  expect(counted.delta({ ...delta, position: 1, ids: [], count: 1 })).toBeNull();
  expect(counted.delta({ ...delta, position: 3, ids: [], count: 1 })).toEqual({ first: false });
});

test('nothing is told of what was not begun, nor of a prompt more than it has', () => {
  const asked = told();
  expect(asked.delta({ ...delta, position: 0, ids: [7] }), 'a token before the prompt').toBeNull();
  expect(asked.released).toBeNull();
  const tokens = [1, 2].map((id) => ({ id, token: 'x', bytes: null, logprob: null, top: [] }));
  const echo = (prompt: number) => asked.promptLogprobs({ type: 'prompt_logprobs', prompt, tokens });
  expect(echo(0), 'an echo before the prompt').toBe(false);
  asked.prompt({ type: 'prompt', prompts: [[1, 2]], prompt_tokens: 2 });
  expect(echo(1_000_000_000), 'another prompt').toBe(false);
  expect(echo(0)).toBe(true);
  expect(echo(0), 'the same again').toBe(false);
  expect(asked.resume('f')?.prompt_logprobs).toEqual([2]);
});

test('a prompt that there is no room for is not held either', async () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const full = told();
  const prompts = [Array.from({ length: 4096 }, (_, i) => i)];
  const held = new WeakRef(prompts[0]!);
  full.prompt({ type: 'prompt', prompts: prompts.splice(0), prompt_tokens: 4096 });
  await new Promise((resolve) => setTimeout(resolve)); // a WeakRef holds to the end of its turn
  collect();
  expect([full.begun, full.resume('f'), held.deref()]).toEqual([true, null, undefined]);
});
