// Pools that take one another's place while requests come: there is one to choose at every moment.
import { createSecretKey, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';
import { systemClock } from '../clock.ts';
import { PoolClient } from './poolClient.ts';
import { PoolRegistry } from './poolRegistry.ts';

const old = new ScriptedPool('old');
const fresh = new ScriptedPool('fresh');
beforeEach(async () => {
  await old.start();
  await fresh.start();
});
afterEach(async () => {
  await old.kill();
  await fresh.kill();
});

function clientOf(pool: ScriptedPool, before: Promise<void> = Promise.resolve()): PoolClient {
  const target = { id: pool.id, url: pool.url, keyId: pool.keyId, secret: createSecretKey(pool.secretHex, 'hex') };
  const waiting: typeof fetch = async (...asked) => {
    await before;
    return fetch(...asked);
  };
  return new PoolClient(target, { fetch: waiting, clock: systemClock, random: (count) => randomBytes(count) });
}

function chosen(registry: PoolRegistry): string {
  const choice = registry.choose('tiny');
  return choice.kind === 'pool' ? choice.pool.client.target.id : choice.kind;
}

test('a pool is retired when its successor has told how it is, not before', async () => {
  const registry = new PoolRegistry([{ client: clientOf(old), models: ['tiny'] }], systemClock);
  const [first] = registry.pools;
  await registry.refresh(first!);
  const told = Promise.withResolvers<void>();
  const adopted = registry.adopt([
    { client: clientOf(old), models: ['tiny'], retired: true },
    { client: clientOf(fresh, told.promise), models: ['tiny'] },
  ]);
  expect(chosen(registry)).toBe('old');
  told.resolve();
  await adopted;
  expect(chosen(registry)).toBe('fresh');
  expect(registry.byId('old')).toBe(first); // still asked for its receipts, and its requests are still counted
  expect(registry.ready()).toBe(true);
  registry.replace([{ client: clientOf(fresh), models: ['tiny'] }]);
  expect(registry.byId('old')).toBeUndefined();
  expect(chosen(registry)).toBe('fresh'); // what is known of one that stays is kept
});

test('a pool that had failed for long is asked as soon as it tells its status by itself', async () => {
  const registry = new PoolRegistry([{ client: clientOf(old), models: ['tiny'] }], systemClock);
  await old.kill();
  const stopping = new AbortController();
  const running = registry.run(stopping.signal);
  const [pool] = registry.pools;
  for (let waited = 0; (pool?.failures ?? 0) < 5; waited += 10) {
    expect(waited).toBeLessThan(5000);
    await systemClock.sleep(10);
  }
  // The next question would come in more than a second.
  await old.start();
  const status = await clientOf(old).status();
  registry.heard('old', status, Date.now());
  for (let waited = 0; chosen(registry) !== 'old'; waited += 10) {
    expect(waited).toBeLessThan(500);
    await systemClock.sleep(10);
  }
  stopping.abort();
  await running;
});

test('the loop asks pools that come, and no longer those that go', async () => {
  const registry = new PoolRegistry([{ client: clientOf(old), models: [] }], systemClock);
  const stopping = new AbortController();
  const running = registry.run(stopping.signal);
  registry.replace([{ client: clientOf(fresh), models: [] }]);
  for (let waited = 0; chosen(registry) !== 'fresh'; waited += 10) {
    expect(waited).toBeLessThan(5000);
    await systemClock.sleep(10);
  }
  stopping.abort();
  await running;
});
