import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type RigRequest, replayPolicy } from '../../test/support/policyRig.ts';
import { randomOf } from '../../test/support/random.ts';
import { LruEviction } from './lru.ts';
import { MultiTenantEviction } from './multiTenant.ts';
import { createEvictionPolicy } from './policies.ts';
import { NEUTRAL_PRIORITY } from './policy.ts';
import { MAX_IDLE_ACCOUNTS } from './tenantShares.ts';

function multiTenantLru(capacityBlocks: number): MultiTenantEviction {
  const makeAlone = (blocks: number) => new LruEviction(blocks);
  return new MultiTenantEviction(capacityBlocks, 'test', {
    inner: makeAlone(capacityBlocks),
    makeAlone,
    lendingMargin: 0.1,
  });
}
const requestOf = (account: string, path: number[], staysFor = 0): RigRequest => ({
  account,
  path,
  priority: NEUTRAL_PRIORITY,
  endsPartial: false,
  staysFor,
});

const CAPACITY = 24;
const request = fc.record({
  account: fc.constantFrom('a', 'b', 'c', 'd'),
  path: fc.array(fc.nat(2), { minLength: 1, maxLength: 4 }),
  priority: fc.constant(NEUTRAL_PRIORITY),
  endsPartial: fc.boolean(),
  staysFor: fc.nat(2),
});
const floors = fc.record({ a: fc.nat(100), b: fc.nat(100), c: fc.nat(100), d: fc.nat(100) });

describe.each(['multi-tenant', 'multi-tenant-lru'])('%s', (name) => {
  it('takes nothing from an account at or below its floor while one above its own has a leaf to give', () => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 150 }), floors, (requests, percent) => {
        const policy = createEvictionPolicy(name, CAPACITY) as MultiTenantEviction;
        for (const [account, floor] of Object.entries(percent))
          policy.account({ name: account, weight: 1, floorShare: floor / 100 });
        replayPolicy(policy, CAPACITY, requests, (choice, mayLeave, held) => {
          // The model's own floors: those of whoever was served lately, to scale.
          const active = [...policy.tenants].filter(({ isActive }) => isActive).map((tenant) => tenant.name);
          const sum = active.reduce((total, account) => total + percent[account as 'a'], 0);
          const isAbove = (account: string) =>
            !active.includes(account) ||
            held.get(account)! > Math.floor((CAPACITY * percent[account as 'a']) / Math.max(100, sum));
          if (mayLeave.some(({ account }) => isAbove(account))) expect(isAbove(choice.account)).toBe(true);
        });
      }),
      { numRuns: 200 },
    );
  });
});

describe('multi-tenant eviction', () => {
  it('counts what an account holds as the model does', () => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 100 }), (requests) => {
        const policy = multiTenantLru(CAPACITY);
        replayPolicy(policy, CAPACITY, requests, (_choice, _mayLeave, held) => {
          for (const tenant of policy.tenants) expect(tenant.heldBlocks).toBe(held.get(tenant.name) ?? 0);
        });
      }),
      { numRuns: 100 },
    );
  });

  it('leaves a tenant beside a flood the hits that it has alone on its share', () => {
    const seed = 20260;
    const random = randomOf(seed);
    const own: RigRequest[] = Array.from({ length: 3_000 }, () => requestOf('steady', [Math.floor(25 * random()), 0]));
    const flooded = own.flatMap((one, i) => [one, requestOf('flood', [1_000 + i, 0, 1])]);
    const capacity = 80;
    const beside = (policy: Parameters<typeof replayPolicy>[0]) => {
      let hits = 0;
      const { hits: all } = replayPolicy(policy, capacity, flooded);
      hits += all;
      return hits;
    };
    const alone = replayPolicy(new LruEviction(capacity / 2), capacity / 2, own).hits;
    const shared = beside(multiTenantLru(capacity));
    expect(shared, `seed ${seed}`).toBeGreaterThanOrEqual(0.98 * alone);
    expect(beside(new LruEviction(capacity)), 'LRU without tenants loses').toBeLessThan(0.8 * alone);
  });

  it('gives what one tenant does not use to the other, and no more than its share while it does', () => {
    const busy = Array.from({ length: 400 }, (_, i) => requestOf('busy', [i % 60]));
    const policy = multiTenantLru(80);
    // All of 60 blocks fit beside an account that holds 20.
    const quiet = Array.from({ length: 20 }, (_, i) => requestOf('quiet', [i]));
    const { hits } = replayPolicy(policy, 80, [...quiet, ...busy]);
    expect(hits).toBe(340);
  });

  it('serves by weight: three times the weight keeps three times as much', () => {
    const policy = multiTenantLru(80);
    policy.account({ name: 'heavy', weight: 3, floorShare: 0 });
    policy.account({ name: 'light', weight: 1, floorShare: 0 });
    const requests = Array.from({ length: 2_000 }, (_, i) => [
      requestOf('heavy', [i % 55]),
      requestOf('light', [i % 200]),
    ]).flat();
    const { hits } = replayPolicy(policy, 80, requests);
    // 55 blocks fit into three quarters of 80, and would not into half of it.
    expect(hits).toBeGreaterThan(0.9 * 2_000);
  });

  it('does not defend the share of an account that is gone', () => {
    const policy = multiTenantLru(40);
    const gone = Array.from({ length: 20 }, (_, i) => requestOf('gone', [i]));
    const busy = Array.from({ length: 2_000 }, (_, i) => requestOf('busy', [i % 38]));
    const { hits } = replayPolicy(policy, 40, [...gone, ...busy]);
    expect(hits).toBeGreaterThan(1_000);
    expect([...policy.tenants].find(({ name }) => name === 'gone')?.shareBlocks).toBe(0);
  });

  it('remembers a bounded number of accounts', () => {
    const policy = multiTenantLru(16);
    for (let i = 0; i < 3 * MAX_IDLE_ACCOUNTS; i++) replayPolicy(policy, 16, [requestOf(`tenant ${i}`, [i])]);
    expect([...policy.tenants].length).toBeLessThanOrEqual(MAX_IDLE_ACCOUNTS + 9 * 16);
  });
});
