import { expect, it } from 'vitest';
import { replayPolicy } from '../../test/support/policyRig.ts';
import { LruEviction } from './lru.ts';
import { NEUTRAL_PRIORITY } from './policy.ts';
import { S3FifoEviction } from './s3Fifo.ts';

it('keeps what is used again through a scan that is longer than the cache', () => {
  const one = (step: number) => ({
    account: 'a',
    path: [step],
    priority: NEUTRAL_PRIORITY,
    endsPartial: false,
    staysFor: 0,
  });
  const hot = Array.from({ length: 40 }, (_, i) => one(i % 10));
  const scan = Array.from({ length: 500 }, (_, i) => one(1_000 + i));
  const again = hot.slice(0, 10);
  const hits = (policy: S3FifoEviction | LruEviction) => replayPolicy(policy, 40, [...hot, ...scan, ...again]).hits;
  expect(hits(new LruEviction(40))).toBe(30);
  expect(hits(new S3FifoEviction(40))).toBe(40);
});
