import { describe, expect, it } from 'vitest';
import { CacheStatistics, MAX_EVICTED_ACCOUNTS, MAX_IDLE_ACCOUNTS, OTHER_ACCOUNTS } from './cacheStatistics.ts';
import { Log2Histogram } from './log2Histogram.ts';

describe('cache statistics', () => {
  it('remember a bounded number of idle accounts, and lose no figure of the others', () => {
    const statistics = new CacheStatistics(4);
    const busy = statistics.open('busy');
    for (let i = 0; i < 3 * MAX_IDLE_ACCOUNTS; i++) {
      const use = statistics.open(`t${i}`);
      use.askedTokens = 10;
      use.hitTokens = 4;
      use.evicts(busy);
      statistics.close(use);
    }
    const { accounts, evictionPairs } = statistics.status(10_000);
    expect(accounts.length).toBe(MAX_IDLE_ACCOUNTS + 2);
    const total = (figure: 'hitTokens' | 'evictingBlocks') => accounts.reduce((sum, one) => sum + one[figure], 0);
    expect(total('hitTokens')).toBe(12 * MAX_IDLE_ACCOUNTS);
    expect(total('evictingBlocks')).toBe(3 * MAX_IDLE_ACCOUNTS);
    expect(accounts.find(({ account }) => account === 'busy')?.evictedBlocks).toBe(3 * MAX_IDLE_ACCOUNTS);
    expect(evictionPairs[0]).toEqual({ evicting: OTHER_ACCOUNTS, evicted: 'busy', blocks: 2 * MAX_IDLE_ACCOUNTS });
    expect(statistics.open('busy')).toBe(busy);
  });

  it('name the accounts that hold most, and sum up the rest', () => {
    const statistics = new CacheStatistics(4);
    for (const [i, name] of ['a', 'b', 'c', 'd'].entries()) {
      const use = statistics.open(name);
      use.cached = 1 + i;
      use.askedTokens = 100;
    }
    expect(statistics.status(2).accounts).toMatchObject([
      { account: 'd', cached: 4 },
      { account: 'c', cached: 3 },
      { account: OTHER_ACCOUNTS, cached: 3, askedTokens: 200 },
    ]);
  });

  it('tell apart a bounded number of accounts that one evicts', () => {
    const statistics = new CacheStatistics(4);
    const use = statistics.open('flooder');
    for (let i = 0; i < 10 * MAX_EVICTED_ACCOUNTS; i++) use.evicts(statistics.open(`t${i}`));
    expect(use.evicted.size).toBe(MAX_EVICTED_ACCOUNTS + 1);
    expect(use.evicted.get(OTHER_ACCOUNTS)).toBe(9 * MAX_EVICTED_ACCOUNTS);
  });

  it('measure gaps and lives over the wrap of their 32-bit clock', () => {
    const statistics = new CacheStatistics(4);
    statistics.entered(1, 2 ** 32 + 100);
    statistics.entered(2, 2 ** 32 + 100);
    statistics.reused(1, 2 ** 32 + 400);
    statistics.left(1, 2 ** 33 + 500);
    const { reuseGapBlocks, reuseGapMs, lifetimeMs } = statistics.status(1);
    expect([reuseGapBlocks.sum, reuseGapMs.sum, lifetimeMs.sum]).toEqual([2, 300, 400]);
  });
});

it('a histogram counts by powers of two, cumulatively', () => {
  const histogram = new Log2Histogram();
  for (const value of [0, 0.5, 1, 2, 3, 4, 7, 2 ** 33]) histogram.add(value);
  const { count, sum, buckets } = histogram.status();
  expect([count, sum]).toEqual([8, 17.5 + 2 ** 33]);
  expect(buckets.slice(0, 4)).toEqual([
    { below: 1, count: 2 },
    { below: 2, count: 3 },
    { below: 4, count: 5 },
    { below: 8, count: 7 },
  ]);
  expect(buckets.at(-1)).toEqual({ below: 2 ** 34, count: 8 });
});
