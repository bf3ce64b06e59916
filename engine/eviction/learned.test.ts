import { describe, expect, it } from 'vitest';
import { replayPolicy } from '../../test/support/policyRig.ts';
import { LearnedEviction } from './learned.ts';
import { LruEviction } from './lru.ts';
import { NEUTRAL_PRIORITY } from './policy.ts';

const one = (step: number) => ({
  account: 'a',
  path: [step],
  priority: NEUTRAL_PRIORITY,
  endsPartial: false,
  staysFor: 0,
});
const hitsOf = (policy: LearnedEviction | LruEviction, steps: number[]) =>
  replayPolicy(policy, 40, steps.map(one)).hits;

describe('learned eviction', () => {
  it('keeps most of a loop that does not quite fit, of which LRU keeps nothing', () => {
    const loop = Array.from({ length: 4_000 }, (_, i) => i % 50);
    expect(hitsOf(new LruEviction(40), loop)).toBe(0);
    expect(hitsOf(new LearnedEviction(40), loop)).toBeGreaterThan(0.6 * loop.length);
  });

  it('learns that what was used once never comes back, and keeps the rest', () => {
    let cold = 1_000;
    const steps = Array.from({ length: 6_000 }, (_, i) => (i % 4 === 0 ? (i / 4) % 30 : cold++));
    expect(hitsOf(new LruEviction(40), steps)).toBe(0);
    expect(hitsOf(new LearnedEviction(40), steps)).toBeGreaterThan(0.85 * 1_500);
  });

  it('does not take a prefix that is cached twice for used twice: the second block leaves first', () => {
    const policy = new LearnedEviction(4);
    const facts = { account: 'a', digest: 7, depth: 0, parent: -1, freshBlocks: 1, partial: true, priority: 50 };
    policy.admit(0, facts);
    policy.admit(1, facts);
    policy.admit(2, { ...facts, digest: 8 });
    for (const block of [0, 1, 2]) {
      policy.touch(block);
      policy.insert(block);
    }
    expect(policy.victim()).toBe(1);
    policy.delete(1);
    policy.remove(1);
    expect(policy.victim()).toBe(0);
  });
});
