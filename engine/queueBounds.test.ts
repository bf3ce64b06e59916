import { describe, expect, it } from 'vitest';
import { cacheOf, EngineHarness, request } from '../test/support/engineHarness.ts';
import { randomOf } from '../test/support/random.ts';
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

  it.each([
    ['of its tenant', 30, 1_000],
    ['of all', 1_000, 90],
  ])('tells the time until there is room within a factor of two, by the bound %s', async (_, perTenant, inAll) => {
    const seed = 21;
    const random = randomOf(seed);
    const passTime = () => {
      harness.nowMs += 20;
    };
    const harness: EngineHarness = new EngineHarness(
      { capacityBlocks: 256, during: passTime },
      { maxRunning: 8, maxWaitingPerTenant: perTenant, maxWaiting: inAll },
    );
    const tenants = [
      { tenant: 'a', weight: 1 },
      { tenant: 'b', weight: 1 },
      { tenant: 'c', weight: 2 },
    ];
    const beginning = Array.from({ length: 32 }, (_, i) => i);
    let count = 0;
    const submit = (who: (typeof tenants)[0], choices: number) =>
      harness.engine.submitAll(
        Array.from({ length: choices }, () => {
          // Some end early and some begin in the cache: neither is known when they queue.
          const ids = [
            ...beginning,
            ...Array.from({ length: 10 + Math.floor(random() * 60) }, () => Math.floor(random() * 64)),
          ];
          const over = {
            maxTokens: 10 + Math.floor(random() * 40),
            eosIds: [Math.floor(random() * 64)],
            cache: cacheOf(who.tenant),
          };
          return request(`q${count++}`, ids, { ...who, ...over });
        }),
      );
    const ratios: number[] = [];
    const due: { who: (typeof tenants)[0]; atMs: number; retryAfterMs: number }[] = [];
    for (let step = 0; step < 6_000; step++) {
      for (const who of tenants) {
        const asking = due.find((each) => each.who === who);
        if (!asking) {
          while (!submit(who, 1));
          // Then a larger request, whose wait is what is measured: room for ten at once.
          const refusal = submit(who, 10);
          if (refusal?.retryAfterMs && step > 500)
            due.push({ who, atMs: harness.nowMs, retryAfterMs: refusal.retryAfterMs });
        } else if (!submit(who, 10)) {
          due.splice(due.indexOf(asking), 1);
          ratios.push((harness.nowMs - asking.atMs) / asking.retryAfterMs);
        }
      }
      await harness.engine.step();
    }
    ratios.sort((x, y) => x - y);
    const [low, middle, high] = [0.1, 0.5, 0.9].map((part) => ratios[Math.floor(part * ratios.length)]!);
    const figures = JSON.stringify({ seed, waits: ratios.length, low, middle, high });
    expect(ratios.length, figures).toBeGreaterThan(20);
    // Eight in ten, not only in the middle.
    expect(low, figures).toBeGreaterThan(0.5);
    expect(high, figures).toBeLessThan(2);
    console.log(figures);
  });
});
