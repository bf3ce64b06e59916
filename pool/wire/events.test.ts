// The quick look at an event never takes what the schema refuses, and takes what a pool sends.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isPrompt, isTextDelta, poolEvent } from './events.ts';

const usage = { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 1 };
const delta = { type: 'delta', choice: 0, position: 0, ids: [17], text: ' a', usage };

test('a delta of text is known at a look', () => {
  for (const told of [
    delta,
    { ...delta, ids: [], text: '', finish_reason: 'stop' },
    { ...delta, ids: [], count: 3 },
    { ...delta, usage: { ...usage, accepted_prediction_tokens: 2, rejected_prediction_tokens: 0 } },
  ])
    expect([isTextDelta(told), poolEvent.safeParse(told).data]).toEqual([true, told]);
});

const odd = fc.oneof(
  fc.integer(),
  fc.double(),
  fc.string(),
  fc.constantFrom(null, undefined, [], [1.5], ['1'], {}, true),
);

test('a prompt is known at a look, and what the schema refuses is not', () => {
  const prompt = { type: 'prompt', prompts: [[1, 2], [], [3]], prompt_tokens: 3 };
  expect([isPrompt(prompt), poolEvent.safeParse(prompt).data]).toEqual([true, prompt]);
  let taken = 0;
  fc.assert(
    fc.property(fc.constantFrom('type', 'prompts', 'prompt_tokens', 'ids', 'id'), odd, (name, value) => {
      const inside = name === 'ids' ? [[1], value] : [[1, value]];
      const told = { ...prompt, ...(name in prompt ? { [name]: value } : { prompts: inside }) };
      if (!isPrompt(told)) return;
      taken += 1;
      expect(poolEvent.parse(told)).toEqual(told);
    }),
    { numRuns: 2000 },
  );
  expect(taken).toBeGreaterThan(10);
});

test('whatever the look takes, the schema takes, unchanged', () => {
  const field = fc.constantFrom(
    'type',
    'choice',
    'position',
    'ids',
    'count',
    'text',
    'logprobs',
    'finish_reason',
    'usage',
  );
  const used = fc.constantFrom(...Object.keys(usage), 'accepted_prediction_tokens', 'rejected_prediction_tokens');
  let taken = 0;
  fc.assert(
    fc.property(field, used, odd, fc.boolean(), (name, part, value, inside) => {
      const told = inside ? { ...delta, usage: { ...usage, [part]: value } } : { ...delta, [name]: value };
      if (!isTextDelta(told)) return;
      taken += 1;
      expect(poolEvent.parse(told)).toEqual(told);
    }),
    { numRuns: 2000 },
  );
  expect(taken).toBeGreaterThan(10);
});
