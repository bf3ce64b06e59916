// An isolate's picture of its pools: who waits for it, who doesn't, and that no request depends on another one's question.
import { createSecretKey, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';
import { type Clock, systemClock } from '../clock.ts';
import { PoolClient } from '../relay/poolClient.ts';
import { PoolRegistry } from '../relay/poolRegistry.ts';
import { PoolWatch } from './poolWatch.ts';

let pool: ScriptedPool;
let registry: PoolRegistry;
let watch: PoolWatch;
let aheadMs: number;
let asked: number;
/** Questions that never get an answer, as of a request that died. */
let hanging: boolean;
let later: Promise<unknown>[];

beforeEach(async () => {
  pool = new ScriptedPool();
  await pool.start();
  [aheadMs, asked, hanging, later] = [0, 0, false, []];
  const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs };
  const counted: typeof fetch = (input, init) => {
    asked += 1;
    return hanging ? new Promise(() => {}) : fetch(input, init);
  };
  const target = {
    id: pool.id,
    url: pool.url,
    keyId: pool.keyId,
    secret: createSecretKey(Buffer.from(pool.secretHex, 'hex')),
  };
  const ports = { fetch: counted, clock: systemClock, random: (count: number) => randomBytes(count) };
  registry = new PoolRegistry([{ client: new PoolClient(target, ports), models: ['tiny'] }], clock);
  watch = new PoolWatch(registry, clock);
});
afterEach(() => pool.kill());

const fresh = () => watch.fresh((work) => later.push(work));

test('the first request waits for the status; those at the same time wait for the same one', async () => {
  await Promise.all([fresh(), fresh(), fresh()]);
  expect(registry.choose('tiny').kind).toBe('pool');
  expect(asked).toBe(1);
  await fresh();
  expect(asked).toBe(1);
});

test('a status that has aged is asked for again beside the request, which does not wait', async () => {
  await fresh();
  aheadMs = 3000;
  hanging = true;
  await fresh();
  expect([asked, later.length]).toEqual([2, 1]);
  expect(registry.choose('tiny').kind).toBe('pool');
});

test('a question whose request died holds nobody up for longer than it may take', async () => {
  hanging = true;
  void fresh();
  hanging = false;
  const startedMs = Date.now();
  await fresh();
  expect(registry.choose('tiny').kind).toBe('pool');
  expect(asked).toBe(2);
  expect(Date.now() - startedMs).toBeLessThan(4000);
});

test('a pool that is down is asked in growing pauses, and nobody waits between', async () => {
  await pool.kill();
  await fresh();
  for (let i = 0; i < 20; i++) await fresh();
  expect(asked).toBe(1);
  aheadMs = 600;
  await fresh();
  expect(asked).toBe(2);
  expect(registry.choose('tiny').kind).toBe('none_ready');
});
