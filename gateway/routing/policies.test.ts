// What every routing policy promises, and what each is for.
import { describe, expect, test } from 'vitest';
import { randomOf } from '../../test/support/random.ts';
import { LeastLatency } from './leastLatency.ts';
import { ROUTING_POLICIES, ROUTING_POLICY_NAMES } from './policies.ts';
import type { Candidate, RoutingPolicy } from './policy.ts';
import { PowerOfTwo } from './powerOfTwo.ts';
import { PrefixAffine } from './prefixAffine.ts';
import { PrefixMap } from './prefixMap.ts';
import { RoundRobin } from './roundRobin.ts';

const pools = (...loads: number[]): Candidate[] => loads.map((load, i) => ({ id: `pool-${i}`, load }));
const pieces = (name: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${name}${i}`);
/** How often each of the candidates is chosen. */
function tally(policy: RoutingPolicy, candidates: Candidate[], times: number): number[] {
  const counts = candidates.map(() => 0);
  for (let i = 0; i < times; i++) counts[policy.choose(candidates, [])]! += 1;
  return counts;
}

describe.each(ROUTING_POLICY_NAMES)('%s', (name) => {
  test('always chooses one that is there, whatever comes and goes', () => {
    const random = randomOf(7);
    const policy: RoutingPolicy = ROUTING_POLICIES[name](random);
    for (let i = 0; i < 3000; i++) {
      const there = pools(...Array.from({ length: 1 + Math.floor(random() * 9) }, () => Math.floor(random() * 20)));
      const prompt = pieces(String(Math.floor(random() * 5)), Math.floor(random() * 6));
      const chosen = policy.choose(there, prompt);
      expect(there[chosen], `seed 7, choice ${i}`).toBeDefined();
      const { id, load } = there[chosen]!;
      if (random() < 0.8) policy.computed?.(id, prompt);
      if (random() < 0.8) policy.answered?.(id, load, random() * 1000);
      if (random() < 0.05) policy.forget?.(id);
    }
  });

  test('leaves no pool without requests while all are alike', () => {
    const policy: RoutingPolicy = ROUTING_POLICIES[name](randomOf(3));
    const there = pools(0, 0, 0, 0);
    const had = new Set<number>();
    for (let i = 0; i < 200; i++) {
      const chosen = policy.choose(there, []);
      had.add(chosen);
      there[chosen]!.load += 1;
      policy.answered?.(there[chosen]!.id, 0, 100);
    }
    expect(had.size).toBe(4);
  });
});

test('round-robin: each in turn, also when one has gone', () => {
  const policy = new RoundRobin();
  expect(tally(policy, pools(9, 0, 4), 300)).toEqual([100, 100, 100]);
  const names = [pools(0, 0, 0), pools(0, 0, 0).slice(1), pools(0, 0, 0)].map(
    (there) => there[policy.choose(there)]!.id,
  );
  expect(names).toEqual(['pool-0', 'pool-1', 'pool-2']);
});

test('power-of-two: never the most loaded of all, and of two the less loaded', () => {
  const policy = new PowerOfTwo(randomOf(1));
  const counts = tally(policy, pools(5, 1, 9, 3), 4000);
  expect(counts[2]).toBe(0);
  expect(counts[1]! / 4000).toBeCloseTo(0.5, 1);
  expect(tally(policy, pools(2, 1), 100)).toEqual([0, 100]);
});

test('least-latency: the faster pool, until its queue outweighs that', () => {
  const policy = new LeastLatency();
  policy.answered('pool-0', 0, 100);
  policy.answered('pool-1', 0, 300);
  expect(policy.choose(pools(0, 0))).toBe(0);
  expect(policy.choose(pools(1, 0))).toBe(0);
  expect(policy.choose(pools(3, 0))).toBe(1);
  expect(policy.choose(pools(1, 1, 0)), 'one that has not answered yet is tried').toBe(2);
});

describe('prefix-affine', () => {
  test('a conversation stays where its beginning is, and others go where there is room', () => {
    const policy = new PrefixAffine();
    const there = pools(0, 0, 0);
    policy.computed('pool-1', pieces('a', 20));
    expect(policy.choose(there, [...pieces('a', 20), 'next'])).toBe(1);
    expect(policy.choose(pools(1, 0, 0), pieces('b', 20))).not.toBe(0);
  });

  test('a queue that costs more than computing the prefix again sends it elsewhere, and then both have it', () => {
    const policy = new PrefixAffine();
    for (let i = 0; i < 400; i++) policy.choose(pools(0, 0), pieces(`new${i}-`, 10)); // an average request: 10 pieces
    policy.computed('pool-0', pieces('a', 20));
    expect(policy.choose(pools(1, 0), pieces('a', 20))).toBe(0);
    expect(policy.choose(pools(3, 0), pieces('a', 20))).toBe(1);
    policy.computed('pool-1', pieces('a', 20));
    expect(policy.choose(pools(1, 0), pieces('a', 20))).toBe(1);
  });

  test('what a pool had is forgotten with its process', () => {
    const policy = new PrefixAffine();
    policy.computed('pool-1', pieces('a', 20));
    policy.forget('pool-1');
    policy.computed('pool-2', pieces('a', 3));
    expect(policy.choose(pools(0, 0, 0), pieces('a', 20))).toBe(2);
  });
});

describe('prefix map', () => {
  test('a match ends at the first piece that a pool does not have', () => {
    const map = new PrefixMap();
    map.add('one', ['a', 'b', 'c']);
    map.add('two', ['a', 'b']);
    map.add('two', ['c']);
    expect(map.matches(['a', 'b', 'c', 'd'])).toEqual(
      new Map([
        ['one', 3],
        ['two', 3],
      ]),
    );
    expect(map.matches(['a', 'x', 'c'])).toEqual(
      new Map([
        ['one', 1],
        ['two', 1],
      ]),
    );
    expect(map.matches([])).toEqual(new Map());
  });

  test('is bounded, and gives up ends of prompts before their beginnings', () => {
    const map = new PrefixMap(10);
    map.add('one', pieces('a', 8));
    map.add('one', pieces('b', 6));
    expect(map.matches(pieces('b', 6)).get('one')).toBe(6);
    expect(map.matches(pieces('a', 8)).get('one')).toBe(4);
  });
});
