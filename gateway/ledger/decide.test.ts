// The decision itself as a table: one meter or two, exact or bounded, explicit or flexible.
import { expect, test } from 'vitest';
import { type Demand, decide, type Meter } from './decide.ts';

const meter = (limitTokens: number, settledTokens = 0, heldTokens = 0): Meter => ({
  limitTokens,
  settledTokens,
  heldTokens,
});
const exact = (promptTokens: number, outputTokens: number, choices = 1): Demand => ({
  ...{ promptTokens, outputTokens, choices, promptExact: true, outputFlexible: false },
});
const loose = (promptTokens: number, outputTokens: number): Demand => ({
  ...exact(promptTokens, outputTokens),
  promptExact: false,
});
const flexible = (promptTokens: number, outputTokens: number, choices = 1): Demand => ({
  ...{ ...exact(promptTokens, outputTokens, choices), outputFlexible: true },
});
const granted = (outputTokens: number, holdTokens: number) => ({ kind: 'granted', outputTokens, holdTokens });

test.each<[string, Meter[], Demand, object]>([
  ['no quota, no bound', [], loose(1e9, 5), granted(5, 1e9 + 5)],
  ['exactly the room', [meter(10, 3, 2)], exact(2, 3), granted(3, 5)],
  ['one more, for holds', [meter(10, 3, 2)], exact(2, 4), { kind: 'held', neededTokens: 6 }],
  ['one more, for use', [meter(10, 5, 0)], exact(2, 4), { kind: 'exhausted', neededTokens: 6 }],
  ['use decides before holds', [meter(10, 5, 3)], exact(2, 4), { kind: 'exhausted' }],
  ['larger than the window', [meter(10)], exact(2, 9), { kind: 'too_large', neededTokens: 11 }],
  ['larger than any one window', [meter(100, 99), meter(10)], exact(2, 9), { kind: 'too_large', meter: meter(10) }],
  ['every choice counts', [meter(10)], exact(1, 3, 3), granted(3, 10)],
  ['an explicit output is never shrunk', [meter(10, 8)], exact(1, 2), { kind: 'exhausted' }],
  ['a flexible one takes what is left', [meter(10, 5)], flexible(1, 100), granted(4, 5)],
  ['… shared by the choices', [meter(20, 0, 5)], flexible(1, 100, 4), granted(3, 13)],
  ['… at least one', [meter(10, 8)], flexible(1, 100), granted(1, 2)],
  ['… or it is refused', [meter(10, 9)], flexible(1, 100), { kind: 'exhausted', neededTokens: 2 }],
  ['a bound of a hundredth of the room is good enough', [meter(1000)], loose(5, 5), granted(5, 10)],
  ['more than that is counted', [meter(1000)], loose(6, 5), { kind: 'count_first' }],
  ['the tightest window decides it', [meter(1e6), meter(1000)], loose(6, 5), { kind: 'count_first' }],
  [
    'nothing is counted where the output alone has no room',
    [meter(100, 96)],
    loose(50, 4),
    { kind: 'exhausted', neededTokens: 5 },
  ],
  [
    '… and a loose bound is never called too large',
    [meter(100, 50, 48)],
    loose(500, 4),
    { kind: 'held', neededTokens: 5 },
  ],
  ['an administrator lowered the limit below use', [meter(5, 9, 9)], exact(1, 1), { kind: 'exhausted' }],
])('%s', (_, meters, demand, expected) => {
  expect(decide(meters, demand)).toMatchObject(expected);
});

test('amounts that are not whole tokens are our bug', () => {
  for (const bad of [1.5, -1, Number.NaN, 2 ** 60]) expect(() => decide([], exact(bad, 1))).toThrow(/whole numbers/);
});
