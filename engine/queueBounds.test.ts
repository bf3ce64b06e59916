import { describe, expect, it } from 'vitest';
import { request } from '../test/support/engineHarness.ts';
import { FairQueue } from './fairQueue.ts';
import { DEFAULT_QUEUE_LIMITS, refuseOverload, retryAfterMs } from './queueBounds.ts';
import { Sequence } from './sequence.ts';

const of = (count: number, length: number, tenant = 'a') =>
  Array.from({ length: count }, (_, i) => request(`${tenant}${i}`, new Array<number>(length).fill(1), { tenant }));

/** A queue that holds `count` sequences of 100 + 4 tokens. */
function filled(count: number, tenant = 'a'): FairQueue {
  const queue = new FairQueue();
  of(count, 100, tenant).forEach((asked, i) => {
    queue.push(new Sequence(asked, i));
  });
  return queue;
}

describe('queue bounds', () => {
  it('tells the time in which the work that is too much leaves at the speed seen', () => {
    // 9 + 3 are 2 more than 10: two requests of 104 tokens at half a token per millisecond.
    const limits = { ...DEFAULT_QUEUE_LIMITS, maxWaiting: 10 };
    expect(refuseOverload(of(3, 1), filled(9), limits, 0.5)).toMatchObject({ code: 'overloaded', retryAfterMs: 416 });
    expect(refuseOverload(of(1, 1), filled(9), limits, 0.5)).toBeNull();
    // 936 + 505 - 1,000 tokens at one per millisecond.
    const tokens = { ...DEFAULT_QUEUE_LIMITS, maxWaitingTokens: 1_000 };
    expect(refuseOverload(of(1, 501), filled(9), tokens, 1)).toMatchObject({ retryAfterMs: 441 });
  });

  it('bounds a tenant without bounding the others', () => {
    const limits = { ...DEFAULT_QUEUE_LIMITS, maxWaitingPerTenant: 5 };
    expect(refuseOverload(of(1, 1), filled(5), limits, 1)?.message).toContain('this tenant');
    expect(refuseOverload(of(1, 1, 'b'), filled(5), limits, 1)).toBeNull();
    const tokens = { ...DEFAULT_QUEUE_LIMITS, maxWaitingTokensPerTenant: 520 };
    expect(refuseOverload(of(1, 1), filled(5), tokens, 1)?.message).toContain('tokens of this tenant');
    expect(refuseOverload(of(1, 1, 'b'), filled(5), tokens, 1)).toBeNull();
  });

  it('keeps a retry time within its range', () => {
    expect(retryAfterMs(1_000, 0)).toBe(1_000);
    expect(retryAfterMs(1, 100)).toBe(100);
    expect(retryAfterMs(1e9, 0.1)).toBe(60_000);
  });
});
