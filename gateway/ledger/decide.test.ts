// The decision itself as a table: one meter or two, exact or bounded, explicit or flexible, by every metric.
import { expect, test } from 'vitest';
import { type Demand, decide, type Meter } from './decide.ts';
import { type LimitWindow, type Metric, unitsOf } from './limits.ts';

const PRICE = { version: 'p', inputNanoUsd: 2, cachedInputNanoUsd: 1, outputNanoUsd: 5 };
const of = (metric: Metric, window: LimitWindow, limit: number, settled = 0, held = 0): Meter => ({
  ...{ metric, window, limit, settled, held, units: unitsOf(metric, PRICE) },
});
const meter = (limit: number, settled = 0, held = 0) => of('tokens', 'day', limit, settled, held);
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
const granted = (outputTokens: number, inputTokens: number, held = outputTokens) => ({
  ...{ kind: 'granted', outputTokens, hold: { inputTokens, outputTokens: held } },
});
const refused = (kind: string, needed: number, ...meters: Meter[]) => ({
  ...{ kind, refusing: meters.length > 0 ? meters.map((one) => ({ meter: one, needed })) : [{ needed }] },
});

test.each<[string, Meter[], Demand, object]>([
  ['no quota, no bound', [], loose(1e9, 5), granted(5, 1e9)],
  ['exactly the room', [meter(10, 3, 2)], exact(2, 3), granted(3, 2)],
  ['one more, for holds', [meter(10, 3, 2)], exact(2, 4), refused('held', 6)],
  ['one more, for use', [meter(10, 5, 0)], exact(2, 4), refused('exhausted', 6)],
  ['use decides before holds', [meter(10, 5, 3)], exact(2, 4), refused('exhausted', 6)],
  ['larger than the window', [meter(10)], exact(2, 9), refused('too_large', 11)],
  ['larger than any one window', [meter(100, 99), meter(10)], exact(2, 9), refused('too_large', 11, meter(10))],
  ['every choice counts', [meter(10)], exact(1, 3, 3), granted(3, 1, 9)],
  ['an explicit output is never shrunk', [meter(10, 8)], exact(1, 2), refused('exhausted', 3)],
  ['a flexible one takes what is left', [meter(10, 5)], flexible(1, 100), granted(4, 1)],
  ['… shared by the choices', [meter(20, 0, 5)], flexible(1, 100, 4), granted(3, 1, 12)],
  ['… at least one', [meter(10, 8)], flexible(1, 100), granted(1, 1)],
  ['… or it is refused', [meter(10, 9)], flexible(1, 100), refused('exhausted', 2)],
  ['a bound of a hundredth of the room is good enough', [meter(1000)], loose(5, 5), granted(5, 5)],
  ['more than that is counted', [meter(1000)], loose(6, 5), { kind: 'count_first' }],
  ['the tightest window decides it', [meter(1e6), meter(1000)], loose(6, 5), { kind: 'count_first' }],
  ['nothing is counted where the output alone has no room', [meter(100, 96)], loose(50, 4), refused('exhausted', 5)],
  ['… and a loose bound is never called too large', [meter(100, 50, 48)], loose(500, 4), refused('held', 5)],
  ['an administrator lowered the limit below use', [meter(5, 9, 9)], exact(1, 1), refused('exhausted', 2)],

  ['one request more', [of('requests', 'day', 3, 2)], exact(9, 9), granted(9, 9)],
  ['the day has had its requests', [of('requests', 'day', 3, 3)], exact(9, 9), refused('exhausted', 1)],
  ['… or they run still', [of('requests', 'day', 3, 2, 1)], exact(9, 9), refused('held', 1)],
  ['a sliding minute passes, by use', [of('requests', 'minute', 3, 3)], exact(9, 9), refused('rate', 1)],
  ['… and of tokens', [of('tokens', 'minute', 10, 9)], exact(1, 1), refused('rate', 2)],
  ['… but not for what never fits', [of('tokens', 'minute', 10)], exact(9, 9), refused('too_large', 18)],
  ['requests at once', [of('concurrent', 'none', 2, 0, 2)], exact(1, 1), refused('rate', 1)],
  ['spend by the dearest outcome', [of('spend', 'month', 29, 0, 0)], exact(2, 5), granted(5, 2)],
  ['… not a nano-dollar over', [of('spend', 'month', 28, 0, 0)], exact(2, 5), refused('exhausted', 29)],
  ['a flexible output takes what the money is enough for', [of('spend', 'month', 28)], flexible(2, 99), granted(4, 2)],
  ['the scarcer of both', [of('spend', 'month', 28), meter(5)], flexible(2, 99), granted(3, 2)],
  [
    'what no waiting mends is told before what passes',
    [of('requests', 'minute', 1, 1), of('spend', 'month', 5, 5)],
    exact(1, 1),
    refused('exhausted', 7, of('spend', 'month', 5, 5)),
  ],
  [
    'holds and a minute in the way: both are told',
    [of('requests', 'minute', 1, 1), of('requests', 'day', 5, 4, 1)],
    exact(1, 1),
    refused('rate', 1, of('requests', 'minute', 1, 1), of('requests', 'day', 5, 4, 1)),
  ],
])('%s', (_, meters, demand, expected) => {
  expect(decide(meters, demand)).toMatchObject(expected);
});

test('a price of nothing needs no room', () => {
  const free = { ...of('spend', 'month', 5, 5), units: unitsOf('spend', null) };
  expect(decide([free], exact(1000, 1000)).kind).toBe('granted');
});

test('amounts that are not whole tokens are our bug', () => {
  for (const bad of [1.5, -1, Number.NaN, 2 ** 60]) expect(() => decide([], exact(bad, 1))).toThrow(/whole numbers/);
});
