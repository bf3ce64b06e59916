import { describe, expect, it } from 'vitest';
import { createEvictionPolicy } from '../../engine/eviction/policies.ts';
import { replay } from './replay.ts';
import { lossesOf, normalHitRate, spreadOverTenants, TENANTS, worstLoss } from './tenants.ts';
import { makeTrace, TRAFFIC } from './traffic.ts';

const seed = 7;
const chats = makeTrace('chats', seed)!;
const short = { ...chats, requests: chats.requests.slice(0, 3_000) };

describe('tenants beside a scanner', () => {
  it('hold whole conversations, the first most of them; the scanner sends as much as all, and nothing twice', () => {
    const { requests } = spreadOverTenants(short, seed, true);
    const blocks = new Map<string, number>();
    for (const { tenant, blocks: own } of requests) blocks.set(tenant, (blocks.get(tenant) ?? 0) + own.length);
    expect(blocks.size).toBe(TENANTS + 1);
    const scanned = blocks.get('scanner')!;
    expect(scanned).toBe([...blocks.values()].reduce((sum, count) => sum + count, 0) - scanned);
    expect(blocks.get('tenant 1')).toBeGreaterThan(2 * blocks.get('tenant 8')!);
    const seen = requests.filter(({ tenant }) => tenant === 'scanner').flatMap(({ blocks: own }) => [...own]);
    expect(new Set(seen).size).toBe(seen.length);
  });

  it('lose next to nothing under the multi-tenant policy, and much under LRU', () => {
    const capacity = 5_400;
    const spread = spreadOverTenants(short, seed, true);
    const loss = (name: string) => {
      const play = (trace: typeof spread, blocks: number) => replay(trace, blocks, createEvictionPolicy(name, blocks));
      const shared = play(spread, capacity);
      return {
        worst: worstLoss(lossesOf(shared, spread, Math.floor(capacity / 9), play)),
        hits: normalHitRate(shared),
      };
    };
    const lru = loss('lru');
    const fair = loss('multi-tenant');
    expect(lru.worst, `seed ${seed}`).toBeGreaterThan(3);
    expect(fair.worst, `seed ${seed}`).toBeLessThan(1.5);
    expect(fair.hits).toBeGreaterThan(lru.hits);
  });
});

describe('made-up traffic', () => {
  it.each(Object.keys(TRAFFIC))('%s is the same for the same seed, and another for another', (name) => {
    const [one, again, other] = [1, 1, 2].map((each) => makeTrace(name, each)!);
    expect(again).toEqual(one);
    if (name !== 'loop') expect(other).not.toEqual(one);
    expect(one!.requests.length).toBeGreaterThan(5_000);
  });

  it('never makes the default policy lose to LRU by more than a hair', () => {
    for (const name of ['slow-chats', 'retries', 'shifting-documents']) {
      const trace = makeTrace(name, seed)!;
      const [lru, ours] = ['lru', 'default'].map((policy) => replay(trace, 2_500, createEvictionPolicy(policy, 2_500)));
      expect(ours!.hitBlocks / ours!.servedBlocks, name).toBeGreaterThan(lru!.hitBlocks / lru!.servedBlocks - 0.007);
    }
  });
});
