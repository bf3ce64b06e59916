import { describe, expect, it } from 'vitest';
import { cacheOf, request } from '../test/support/engineHarness.ts';
import { BlockManager } from './blockManager.ts';
import { BlocksInFlight } from './blocksInFlight.ts';
import type { SequenceRequest } from './request.ts';
import { Sequence } from './sequence.ts';

let arrivals = 0;
const prompt = (length: number, first = 1) => Array.from({ length }, (_, i) => (first + i * 3) % 64);
const sequence = (ids: number[], over: Partial<SequenceRequest> = {}) =>
  new Sequence(request(`b${arrivals}`, ids, over), arrivals++);

function leading(
  inFlight: BlocksInFlight,
  ids: number[],
  computed = 0,
  over: Partial<SequenceRequest> = {},
  publicPositions = 0,
): Sequence {
  const leader = sequence(ids, over);
  leader.computed = computed;
  const positions = ids.length;
  leader.table = new BlockManager(16).admit({
    scope: null,
    tokens: leader.tokens,
    positions,
    maxCached: 0,
    capacityPositions: positions,
    headroomBlocks: 0,
  });
  inFlight.lead(leader, publicPositions);
  return leader;
}

describe('blocks in flight', () => {
  it('a sequence follows whoever computes most of what it needs, until exactly that is published', () => {
    const inFlight = new BlocksInFlight(16);
    const ids = prompt(100);
    const near = leading(inFlight, [...ids.slice(0, 40), ...prompt(60, 9)]);
    const far = leading(inFlight, [...ids.slice(0, 70), ...prompt(60, 9)]);
    const follower = sequence(ids);
    expect(inFlight.follow(follower, 0, 0, 1)).toBe(true);
    near.computed = 48;
    expect(inFlight.published(near)).toEqual([]);
    // 70 shared tokens: 4 blocks, and the fifth to copy 6 of.
    far.computed = 79;
    expect(inFlight.published(far)).toEqual([]);
    far.computed = 80;
    expect(inFlight.published(far)).toEqual([follower]);
    expect(inFlight.following).toBe(0);
    // With those cached there is nothing left to wait for.
    expect(inFlight.follow(follower, 64, 0, 2)).toBe(false);
  });

  it('compares every token: one that differs, also in what is cached, is another prefix', () => {
    const inFlight = new BlocksInFlight(16);
    leading(inFlight, prompt(100), 32);
    for (const at of [0, 31, 32, 39]) {
      const other = prompt(100);
      other[at] = 63 - other[at]!;
      expect(inFlight.follow(sequence(other), 32, 0, 1)).toBe(false);
    }
    expect(inFlight.follow(sequence(prompt(100)), 32, 0, 1)).toBe(true);
  });

  it('shares within one namespace and one extra key only, and nothing without a cache', () => {
    const inFlight = new BlocksInFlight(16);
    leading(inFlight, prompt(100));
    const others = [cacheOf('scope-b'), cacheOf('scope-a', { extra: 'adapter' }), null];
    for (const cache of others) expect(inFlight.follow(sequence(prompt(100), { cache }), 0, 0, 1)).toBe(false);
    const uncached = leading(inFlight, prompt(100), 0, { cache: null });
    expect(inFlight.leave(uncached)).toEqual([]);
  });

  it('waits for the end of a prompt whose last block it can copy, but not for a few tokens', () => {
    const inFlight = new BlocksInFlight(16);
    const leader = leading(inFlight, prompt(27));
    const twin = sequence(prompt(27));
    expect(inFlight.follow(twin, 16, 0, 1)).toBe(true);
    leader.computed = 26;
    expect(inFlight.published(leader)).toEqual([]);
    leader.computed = 27;
    expect(inFlight.published(leader)).toEqual([twin]);
    leading(inFlight, prompt(23));
    expect(inFlight.follow(sequence(prompt(23)), 16, 0, 1)).toBe(false);
  });

  it('shares the public part, and that alone, with other namespaces', () => {
    const inFlight = new BlocksInFlight(16);
    const leader = leading(inFlight, prompt(100), 0, {}, 48);
    const other = sequence(prompt(100), { cache: cacheOf('scope-b') });
    expect(inFlight.follow(other, 0, 0, 1)).toBe(false);
    expect(inFlight.follow(other, 48, 48, 1)).toBe(false);
    expect(inFlight.follow(other, 0, 48, 1)).toBe(true);
    leader.computed = 48;
    expect(inFlight.published(leader)).toEqual([other]);
    expect(inFlight.leave(leader)).toEqual([]);
    expect(inFlight.follow(other, 0, 48, 2)).toBe(false);
  });

  it('lets all go when the leader leaves, and when it has published what it knew', () => {
    const inFlight = new BlocksInFlight(16);
    const leader = leading(inFlight, prompt(40));
    const followers = [sequence(prompt(40)), sequence(prompt(60))];
    for (const each of followers) expect(inFlight.follow(each, 0, 0, 1)).toBe(true);
    expect(inFlight.leave(leader)).toEqual(followers);
    expect(inFlight.follow(followers[0]!, 0, 0, 1)).toBe(false);
    const next = leading(inFlight, prompt(40));
    inFlight.follow(followers[1]!, 0, 0, 2);
    next.computed = 40;
    expect(inFlight.published(next)).toEqual([followers[1]]);
    expect(inFlight.published(next)).toEqual([]);
  });

  it('nobody waits longer than a number of steps fixed when it first waited, whoever leads', () => {
    const inFlight = new BlocksInFlight(16);
    const follower = sequence(prompt(100));
    let leader = leading(inFlight, prompt(100));
    inFlight.follow(follower, 0, 0, 10);
    // 99 shared tokens are 7 steps alone: 4 times that and 16 more.
    const last = 10 + 4 * 7 + 16;
    expect(follower.followUntilStep).toBe(last);
    inFlight.leave(leader);
    leader = leading(inFlight, prompt(100));
    expect(inFlight.follow(follower, 0, 0, 30)).toBe(true);
    expect(inFlight.impatient(last - 1)).toEqual([]);
    expect(inFlight.impatient(last)).toEqual([follower]);
    expect(inFlight.follow(follower, 0, 0, last)).toBe(false);
    expect(inFlight.leave(leader)).toEqual([]);
  });
});
