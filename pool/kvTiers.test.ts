// KV blocks outlive their process: real pool processes over the simulated runner, whose output shows any wrong block.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type PagedPool, startPagedPool } from '../test/support/pagedPool.ts';
import { askPool, collect, inferenceContext, ofType } from '../test/support/signedPoolClient.ts';
import { until } from '../test/support/tierRig.ts';

const PROMPT = 'What was said before is the same for every request of this conversation, and it is long.';
const TENANTS = {
  a: { cacheScope: 'scope-a', cacheSeal: 'a1'.repeat(32) },
  b: { cacheScope: 'scope-b', cacheSeal: 'b2'.repeat(32) },
};

let folder: string;
const pools: PagedPool[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-kv-'));
});
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close();
  rmSync(folder, { recursive: true, force: true });
});

async function start(): Promise<PagedPool> {
  const pool = await startPagedPool({ section: { tiers: { diskFolder: join(folder, 'kv') } } });
  pools.push(pool);
  return pool;
}

const recordsOnDisk = (): number =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.kv')).length;

/** What a tenant is answered, and how much of its prompt came from a cache. */
async function ask(pool: PagedPool, tenant: keyof typeof TENANTS): Promise<{ ids: number[]; cached: number }> {
  const context = { ...inferenceContext(), ...TENANTS[tenant], tenant };
  const body = { model: 'bytes', prompt: PROMPT, max_tokens: 8, seed: 1 };
  const events = await collect(await askPool(pool.address, { path: '/v1/completions', body, context }));
  const [done] = ofType(events, 'done');
  return { ids: ofType(events, 'delta').flatMap(({ ids }) => ids), cached: done?.usage.cached_tokens ?? -1 };
}

it('a killed pool’s successor, and a neighbour, hit what it had computed; another tenant does not', async () => {
  const first = await start();
  const cold = await ask(first, 'a');
  expect(cold.cached).toBe(0);
  await until(() => recordsOnDisk() >= 5, 'written through');

  const neighbour = await start();
  expect(await ask(neighbour, 'a')).toEqual({ ids: cold.ids, cached: 80 });
  expect(await ask(neighbour, 'b')).toEqual({ ids: cold.ids, cached: 0 });

  await first.supervisor.kill();
  const successor = await start();
  expect(await ask(successor, 'a')).toEqual({ ids: cold.ids, cached: 80 });
});

it('a prompt and its answer are nowhere in the folder in the clear', async () => {
  const pool = await start();
  await ask(pool, 'a');
  await until(() => recordsOnDisk() >= 5, 'written through');

  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((each) =>
    each.endsWith('.kv'),
  )) {
    const record = readFileSync(join(folder, name));
    // The simulated KV is the tokens themselves: bytes of the prompt, as 32-bit integers.
    const words = Buffer.from(Int32Array.from(Buffer.from(PROMPT.slice(0, 4))).buffer);
    expect(record.includes(words)).toBe(false);
  }
});
