// Which requests a pool waits for, and which it takes no more, by a clock that the test turns.
import { beforeEach, expect, it } from 'vitest';
import { Arrivals, MAX_FENCED } from './arrivals.ts';
import { MAX_CLOCK_SKEW_MS } from './wire/signing.ts';

let nowMs: number;
let arrivals: Arrivals;
beforeEach(() => {
  nowMs = 1_000_000;
  arrivals = new Arrivals('pool-1', () => nowMs);
});

const arrive = (requestId: string, begin: () => Promise<void>) =>
  arrivals.until({ requestId, tenant: 'tenant-a' }, 'bytes', begin);

it('a request that waits twice is there until both are begun or refused', async () => {
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const both = [arrive('r', () => first.promise), arrive('r', () => second.promise)];
  expect(arrivals.receiptOf('r')).toMatchObject({ request_id: 'r', outcome: 'running', started_at_ms: nowMs });
  first.reject(new Error('refused'));
  await expect(both[0]).rejects.toThrow('refused');
  expect(arrivals.receiptOf('r')).toBeDefined();
  second.resolve();
  await both[1];
  expect(arrivals.receiptOf('r')).toBeUndefined();
});

it('one that waits is not fenced, one that is fenced does not wait', async () => {
  const begun = Promise.withResolvers<void>();
  const waiting = arrive('r', () => begun.promise);
  expect(arrivals.fence('r')).toBe(false);
  begun.resolve();
  await waiting;
  expect(arrivals.fence('r')).toBe(true);
  let begins = 0;
  await expect(arrive('r', async () => void begins++)).rejects.toMatchObject({ wire: { status: 503 } });
  expect([begins, arrivals.receiptOf('r')]).toEqual([0, undefined]);
});

it('a fence stands for as long as any signature that was made before it is accepted', async () => {
  expect(arrivals.fence('r')).toBe(true);
  nowMs += 2 * MAX_CLOCK_SKEW_MS;
  await expect(arrive('r', async () => {})).rejects.toThrow();
  nowMs += 1;
  await arrive('r', async () => {});
});

it('past its bound it fences no more, and forgets none', async () => {
  for (let i = 0; i < MAX_FENCED; i++) expect(arrivals.fence(`r${i}`)).toBe(true);
  expect(arrivals.fence('one more')).toBe(false);
  expect(arrivals.fence('r0')).toBe(true);
  await expect(arrive('r0', async () => {})).rejects.toThrow();
  nowMs += 2 * MAX_CLOCK_SKEW_MS + 1;
  expect(arrivals.fence('one more')).toBe(true);
});
