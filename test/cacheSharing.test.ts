// Who shares a cached prefix with whom, asked as clients ask: through the gateway, a pool process and the real block manager.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PUBLIC_NAMESPACE } from '../engine/blockManager.ts';
import { blockIds, scopeKey } from '../pool/wire/kvEvents.ts';
import { statusDetail } from '../pool/wire/status.ts';
import { KvReplica } from './support/kvReplica.ts';
import { PagedSystem } from './support/pagedSystem.ts';
import { askPool, kvEventsOf } from './support/signedPoolClient.ts';

const BLOCK = 16;
const SYSTEM = 'You are the assistant of a bank. Be brief, and never give advice on shares.';
let system: PagedSystem;
beforeAll(async () => {
  system = await PagedSystem.start({
    publicPrefixes: [{ model: 'bytes', messages: [{ role: 'system', content: SYSTEM }] }],
  });
});
afterAll(() => system.close());

let prompts = 0;
/** A prompt of some blocks that no other test has. */
const fresh = () => `${prompts++} is the number of this prompt, which is a few blocks long in any case`;

const whole = (tokens: number) => Math.floor(tokens / BLOCK) * BLOCK;

/** The index of the pool, as a router has it. */
async function indexOfPool(over: { scope?: string; query?: string } = {}): Promise<KvReplica> {
  const replica = new KvReplica();
  const stop = new AbortController();
  const context = over.scope === undefined ? {} : { cacheScope: over.scope };
  const ask = { path: `/pool/kv-events${over.query ?? ''}`, context, signal: stop.signal };
  try {
    for await (const event of kvEventsOf(system.pool.address, ask)) {
      replica.apply(event);
      if (event.type === 'caught_up') break;
    }
  } finally {
    stop.abort();
  }
  return replica;
}

describe('a tenant', () => {
  it('hits what it sent before, whichever of its keys sends it, with the same answer', async () => {
    const { id, key } = await system.tenant();
    const prompt = fresh();
    const first = await system.complete(key, prompt);
    const second = await system.complete(await system.key(id), prompt);
    expect(first.cached).toBe(0);
    expect(second.cached).toBeGreaterThanOrEqual(whole(prompt.length - 1));
    expect(second.text).toBe(first.text);
  });

  it('never hits another’s, with the same prompt and the same salt', async () => {
    const [a, b] = [await system.tenant(), await system.tenant()];
    const prompt = fresh();
    for (const salt of [undefined, 'same']) {
      const answers = [];
      for (const { key } of [a, b]) answers.push(await system.complete(key, prompt, { cache_salt: salt }));
      expect(answers.map(({ cached }) => cached)).toEqual([0, 0]);
      expect(answers[0]?.text).toBe(answers[1]?.text);
    }
  });

  it('divides its own cache by salt', async () => {
    const { key } = await system.tenant();
    const prompt = fresh();
    const cached = async (cache_salt?: string) => (await system.complete(key, prompt, { cache_salt })).cached;
    expect([await cached(), await cached('a'), await cached('b')]).toEqual([0, 0, 0]);
    for (const salt of [undefined, 'a', 'b']) expect(await cached(salt)).toBeGreaterThan(0);
  });

  it('leaves nothing with cache: false, and finds nothing', async () => {
    const { key } = await system.tenant();
    const prompt = fresh();
    const before = (await indexOfPool()).blocks.size;
    await system.complete(key, prompt, { cache: false });
    expect((await indexOfPool()).blocks.size).toBe(before);
    expect((await system.complete(key, prompt)).cached).toBe(0);
    expect((await system.complete(key, prompt, { cache: false })).cached).toBe(0);
    expect((await system.complete(key, prompt)).cached).toBeGreaterThan(0);
  });

  it('whose policy says so shares by key, or not at all', async () => {
    const { id, key } = await system.tenant();
    const other = await system.key(id);
    const path = `/projects/${id}/service_policy`;
    const prompt = fresh();
    await system.admin('PUT', path, { cache_scope: 'api_key' });
    await system.complete(key, prompt);
    expect((await system.complete(other, prompt)).cached).toBe(0);
    expect((await system.complete(key, prompt)).cached).toBeGreaterThan(0);
    await system.admin('PUT', path, { cache_scope: 'none' });
    expect((await system.complete(key, prompt)).cached).toBe(0);
  });
});

describe('a public prefix', () => {
  it('of the configuration is hit by everybody from the second request on', async () => {
    await system.eventually('the pool has it', async () => {
      const { data } = await system.admin<{ data: { pools: object[] }[] }>('GET', '/public_prefixes');
      return data[0]?.pools.length === 1;
    });
    const ask = async (content: string) => {
      const { key } = await system.tenant();
      return system.chat(key, [
        { role: 'system', content: SYSTEM },
        { role: 'user', content },
      ]);
    };
    const first = await ask(`hello ${fresh()}`);
    const second = await ask(`goodbye ${fresh()}`);
    expect(first.cached).toBe(0);
    // Everything before the user's words, in whole blocks: `<turn>system\n…<end><turn>user\n`.
    expect(second.cached).toBe(whole(1 + 'system\n'.length + SYSTEM.length + 2 + 'user\n'.length));
  });

  it('shares nothing of what follows it', async () => {
    const own = fresh();
    const ask = async () => {
      const { key } = await system.tenant();
      return system.chat(key, [
        { role: 'system', content: SYSTEM },
        { role: 'user', content: own },
      ]);
    };
    const [first, second] = [await ask(), await ask()];
    expect(second.cached).toBe(first.cached);
    expect(second.text).toBe(first.text);
  });

  it('that is declared while it runs counts at once, is there after both restart, and ends when it is deleted', async () => {
    const text = fresh();
    const declared = await system.admin<{ id: string }>('POST', '/public_prefixes', { model: 'bytes', text });
    const cached = async () => {
      const { key } = await system.tenant();
      return (await system.complete(key, `${text} and so on`)).cached;
    };
    expect([await cached(), await cached()]).toEqual([0, whole(text.length)]);
    await system.stopGateway();
    await system.startGateway();
    expect(await cached()).toBe(whole(text.length));
    await system.admin('DELETE', `/public_prefixes/${declared.id}`);
    expect(await cached()).toBe(0);
  });
});

describe('the operator', () => {
  const ask = async (query: string, context = {}) =>
    askPool(system.pool.address, { method: 'GET', path: `/pool/status${query}`, context });
  const detailOf = async (query = '') => {
    const { json } = await ask(`?detail=true${query}`);
    return statusDetail.parse((json as { detail: unknown }).detail);
  };
  const tenantIn = async (id: string) =>
    (await detailOf('&tenants=256')).engines[0]?.tenants.find(({ tenant }) => tenant === id);

  it('sees the weight of a policy in the scheduler, and who holds and hit what', async () => {
    const { id, key } = await system.tenant();
    await system.admin('PUT', `/projects/${id}/service_policy`, { weight: 2.5, kv_floor_share: 0.1 });
    const prompt = fresh();
    await system.complete(key, prompt);
    const before = await tenantIn(id);
    const { cached } = await system.complete(key, prompt);
    const after = await tenantIn(id);
    expect(before).toMatchObject({ weight: 2.5, hit_tokens: 0, asked_tokens: prompt.length, blocks_used: 0 });
    expect(before?.blocks_cached).toBeGreaterThanOrEqual(Math.floor(prompt.length / BLOCK));
    expect(after).toMatchObject({ hit_tokens: cached, asked_tokens: 2 * prompt.length, output_tokens: 8 });
  });

  it('sees who evicted whom, page by page, once more is wanted than there is', async () => {
    const [busy, victim] = [await system.tenant(), await system.tenant()];
    await system.complete(victim.key, fresh());
    // Four times the arena, never the same.
    for (let i = 0; i < 40; i++) await system.complete(busy.key, fresh() + 'x'.repeat(300) + i);
    const [engine] = (await detailOf('&limit=1')).engines;
    const all = (await detailOf('&limit=1000')).engines[0]?.attribution.pairs ?? [];
    expect(engine?.attribution.pairs).toEqual(all.slice(0, 1));
    expect(engine?.attribution.has_more).toBe(all.length > 1);
    expect(all.some(({ evicting }) => evicting === busy.id)).toBe(true);
    const [second] = (await detailOf('&offset=1&limit=1')).engines;
    expect(second?.attribution.pairs).toEqual(all.slice(1, 2));
    expect(engine?.evictions).toBeGreaterThan(0);
    expect(engine?.lifetime_ms.count).toBeGreaterThan(0);
  });

  it('is told by name what a query gets wrong, and the plain status names no tenant', async () => {
    expect(await ask('?detail=true&limit=0')).toMatchObject({ status: 400, json: { error: { param: 'limit' } } });
    const { json } = await ask('');
    expect(JSON.stringify(json)).not.toContain('proj_');
  });

  it('finds the figures in metrics, and tenants only where they are wanted', async () => {
    const text = await (await fetch(`${system.pool.address.url}/metrics`)).text();
    const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
    expect(value('hearth_pool_cache_hit_tokens_total\\{model="bytes"\\}')).toBeGreaterThan(0);
    expect(value('hearth_pool_step_tokens_count')).toBeGreaterThan(0);
    expect(value('hearth_pool_blocks_total\\{model="bytes"\\}')).toBe(256);
    expect(text).not.toContain('proj_');
    expect(text).not.toContain('tenant=');
  });
});

describe('kv-events', () => {
  it('give a router the ids that it computes from namespace and tokens, and tokens only to their owner', async () => {
    const { key } = await system.tenant();
    const prompt = fresh();
    const before = await indexOfPool();
    await system.complete(key, prompt);
    const after = await indexOfPool({ query: `?epoch=${before.epoch}&after=0` });
    const added = [...after.blocks.keys()].filter((id) => !before.blocks.has(id));
    expect(added.length).toBe(Math.floor((prompt.length + 3) / BLOCK));
    const guessed = blockIds(scopeKey('proj_guess'), Int32Array.from(Buffer.from(prompt)));
    expect(guessed.some((id) => after.blocks.has(id))).toBe(false);
    const shared = blockIds(scopeKey(PUBLIC_NAMESPACE), Int32Array.from(Buffer.from(prompt)));
    expect(shared.some((id) => after.blocks.has(id))).toBe(false);
    const stranger = await indexOfPool({ scope: 'stranger', query: '?tokens=true' });
    expect(added.some((id) => stranger.blocks.has(id))).toBe(false);
  });
});
