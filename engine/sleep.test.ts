// An engine that sleeps, over the simulated runner: nothing of its cache is lost that the tiers have room for, however few blocks can be read
// at once, whatever the policy of eviction; and what still runs ends first.
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { cacheOf, EngineHarness, request } from '../test/support/engineHarness.ts';
import { scopeOf } from '../test/support/tierRig.ts';
import { createEvictionPolicy, EVICTION_POLICIES } from './eviction/policies.ts';
import { RamTier } from './tiers/ramTier.ts';
import { TieredCache } from './tiers/tieredCache.ts';

const BLOCKS = 64;
const PROMPT = 16 * 9 + 5;

function harness(policy: string, maxReads: number, ramBytes = 2 ** 30): EngineHarness {
  return new EngineHarness({ capacityBlocks: BLOCKS, maxReads, contextLength: 512 }, {}, (runner) => ({
    eviction: createEvictionPolicy(policy, BLOCKS),
    tiers: new TieredCache({
      ...{ transfer: runner.transfer, fingerprint: runner.fingerprint, disk: null, writeThrough: false },
      ...{ ram: new RamTier(ramBytes, () => 0), now: () => 0 },
    }),
  }));
}

const ask = (id: string, tenant: number) =>
  request(
    id,
    Array.from({ length: PROMPT }, (_, i) => (i * 7 + tenant) % 64),
    {
      ...{ tenant: `t${tenant}`, maxTokens: 4, account: { name: `t${tenant}`, weight: 1, floorShare: 0.1 } },
      cache: cacheOf(`t${tenant}`, { scope: scopeOf(`t${tenant}`) }),
    },
  );

describe('an engine that sleeps', () => {
  it.each(Object.keys(EVICTION_POLICIES))(
    'finds what it had cached in the tiers, with the policy %s',
    async (policy) => {
      const one = harness(policy, 2);
      for (const tenant of [1, 2, 3, 4]) one.engine.submit(ask(`before-${tenant}`, tenant));
      await one.finish();
      await one.engine.sleep();
      expect(one.engine.status()).toMatchObject({ blocksFree: BLOCKS, blocksCached: 0 });
      expect(one.engine.status().tiers).toMatchObject({ ram: { blocks: 4 * 9 }, skippedCopies: 0, waitingCopies: 0 });
      expect(one.engine.submit(ask('early', 1))).toMatchObject({ code: 'overloaded' });
      expect(one.engine.wake()).toBe('slept');
      for (const tenant of [1, 2, 3, 4]) one.engine.submit(ask(`after-${tenant}`, tenant));
      await one.finish();
      for (const tenant of [1, 2, 3, 4]) {
        expect(one.of(`after-${tenant}`).cachedTokens).toBe(16 * 9);
        expect(one.of(`after-${tenant}`).ids).toEqual(one.of(`before-${tenant}`).ids);
      }
      one.engine.checkInvariants();
    },
  );

  const KEPT = 27;
  it('keeps the beginnings of prompts where the tiers have not room for all', async () => {
    const one = harness('lru', 64, KEPT * (128 + 1024)); // of a block, and of its entry;
    for (const tenant of [1, 2, 3, 4]) one.engine.submit(ask(`before-${tenant}`, tenant));
    await one.finish();
    await one.engine.sleep();
    one.engine.wake();
    await sleep(20); // what is still being copied would push out what was kept
    let cached = 0;
    for (const tenant of [1, 2, 3, 4]) {
      one.engine.submit(ask(`after-${tenant}`, tenant));
      await one.finish();
      cached += one.of(`after-${tenant}`).cachedTokens ?? 0;
    }
    expect(cached).toBe(16 * KEPT); // every block that was kept continues one that was
  });

  it('ends what was taken before, and tells it', async () => {
    const one = harness('lru', 64);
    one.engine.submit(ask('running', 1));
    await one.engine.step();
    const loop = one.engine.run();
    await one.engine.sleep();
    expect(one.of('running')).toMatchObject({ end: 'length' });
    one.engine.wake();
    await one.engine.stop();
    await loop;
  });
});
