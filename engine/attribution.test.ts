import { describe, expect, it } from 'vitest';
import { EngineHarness, request } from '../test/support/engineHarness.ts';

const prompt = (length: number, first: number) => Array.from({ length }, (_, i) => (first + i * 3) % 64);

describe('attribution', () => {
  it('names the tenants with the most, and sums up the rest, so that nothing is lost', async () => {
    const harness = new EngineHarness({}, { maxRunning: 4 });
    for (let i = 0; i < 12; i++) {
      const over = { tenant: `t${i % 6}`, cache: null, maxTokens: 3 };
      harness.engine.submit(request(`r${i}`, prompt(5 + 10 * (i % 6), i), over));
    }
    await harness.engine.step();
    const now = harness.engine.attribution(2);
    const { running, waiting, waitingTokens } = harness.engine.status();
    const all = [...now.tenants, now.other];
    const sum = (key: 'running' | 'waiting' | 'waitingTokens') => all.reduce((total, each) => total + each[key], 0);
    expect([sum('running'), sum('waiting'), sum('waitingTokens')]).toEqual([running, waiting, waitingTokens]);
    expect(waiting).toBeGreaterThan(0);
    await harness.finish();
    const { tenants, other } = harness.engine.attribution(2);
    expect(tenants.map(({ tenant }) => tenant)).toEqual(['t5', 't4']);
    // Two requests of 55 prompt tokens; the last of 3 output tokens needs no KV.
    expect(tenants[0]).toMatchObject({ computedTokens: 2 * (55 + 2), outputTokens: 6, preemptions: 0 });
    expect(other).toMatchObject({ running: 0, waiting: 0, computedTokens: 2 * (5 + 15 + 25 + 35 + 4 * 2) });
  });

  it('blocks of a request without a cache are its tenant’s', async () => {
    const harness = new EngineHarness();
    harness.engine.submit(request('private', prompt(40, 1), { tenant: 'a', cache: null, maxTokens: 20 }));
    await harness.engine.step();
    const [account] = harness.engine.cacheStatus(5).accounts;
    expect(account).toMatchObject({ account: 'a', inUse: 3, cached: 0 });
    await harness.finish();
    expect(harness.engine.cacheStatus(5).accounts[0]).toMatchObject({ account: 'a', inUse: 0, cached: 0 });
  });

  it('counts whose sequences were preempted', async () => {
    const harness = new EngineHarness({ capacityBlocks: 8, contextLength: 128 }, { maxRunning: 2 });
    harness.engine.submit(request('long', prompt(40, 1), { maxTokens: 60, cache: null, tenant: 'a' }));
    harness.engine.submit(request('short', prompt(10, 2), { maxTokens: 60, cache: null, tenant: 'b' }));
    await harness.finish();
    const { tenants } = harness.engine.attribution();
    const counted = tenants.map(({ tenant, preemptions }) => [tenant, preemptions]);
    expect(Object.fromEntries(counted)).toEqual({ a: 0, b: harness.engine.status().preemptions });
  });
});
