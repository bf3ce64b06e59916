// A pool fails under a request, and its client does not notice: two pools that compute the same, cut at every place, through the app and
// its ledger.
import { createSecretKey, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import { bodyOf, GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';
import { type Script, ScriptedPool } from '../../test/support/scriptedPool.ts';
import { PoolClient } from '../relay/poolClient.ts';

let rig: GatewayRig;
let a: ScriptedPool;
let b: ScriptedPool;
let tenant: Tenant;

beforeEach(async () => {
  rig = await GatewayRig.start({ failoverWaitMs: 3000 });
  a = rig.pool;
  b = new ScriptedPool('pool-b');
  await b.start();
  await know(a, b);
  tenant = await rig.tenant([{ window: 'day', limit_tokens: 1_000_000 }]);
});
afterEach(async () => {
  await b.kill();
  await rig.stop();
});

/** These are the pools, in this order. */
async function know(...pools: readonly ScriptedPool[]): Promise<void> {
  const { registry, clock } = rig.ports;
  registry.replace(
    pools.map(({ id, url, keyId, secretHex, model }) => {
      const secret = createSecretKey(Buffer.from(secretHex, 'hex'));
      const ports = { fetch, clock, random: (count: number) => randomBytes(count) };
      return { client: new PoolClient({ id, url, keyId, secret }, ports), models: [model] };
    }),
  );
  await rig.refresh();
}

/** A pool that dies when it has sent so many tokens of each choice. */
function diesAfter(pool: ScriptedPool, tokens: number): (position: number) => Promise<void> {
  let dead = false;
  return async (position) => {
    if (dead || position < tokens) return;
    dead = true;
    await rig.ports.clock.sleep(30); // they are on their way
    await pool.kill();
  };
}

/** The pool that is asked first is the first of the two. */
function scripts(first: Script, second: Script = {}): void {
  a.script = first;
  b.script = second;
}

const REQUEST = { model: 'tiny', prompt: 'so', max_tokens: 4, n: 2, logprobs: 1, echo: true, seed: 5 };

async function told(body: object, signal?: AbortSignal): Promise<unknown[]> {
  const asked = { key: tenant.key, body: { ...body, stream: true }, ...(signal && { signal }) };
  const response = await rig.request('POST', '/v1/completions', asked);
  const text = await response.text();
  if (response.status !== 200) return [JSON.parse(text)];
  // The id and the time are the request's own.
  return text.split('\n\n').flatMap((event): unknown[] => {
    const data = event.replace(/^data: /, '');
    if (data === '' || data === '[DONE]') return data === '' ? [] : [data];
    const { id: _, created: __, ...chunk } = JSON.parse(data) as Record<string, unknown>;
    return [chunk];
  });
}

const idsOf = (text: string) => new Set([...text.matchAll(/"id":"(cmpl-[^"]+)"/g)].map(([, id]) => id));

describe('a stream', () => {
  const request = { ...REQUEST, stream_options: { include_usage: true } };

  test('cut at any of its events goes on at the other pool with what it would have said, and is billed once', async () => {
    const whole = await told(request);
    expect(whole.at(-1)).toBe('[DONE]');
    for (const how of ['cut', 'signature', 'position', 'receipt'] as const)
      for (let event = how === 'receipt' ? 10 : 0; event <= 10; event++) {
        if (how === 'position' && event < 2) continue; // no delta
        scripts({ tamper: { event, how } });
        expect(await told(request), `${how} at ${event}`).toEqual(whole);
        await rig.refresh();
      }
    await rig.unheld();
    const entries = await rig.entries();
    const billed = { outcome: 'completed', inputTokens: 2, cachedInputTokens: 2, outputTokens: 8 };
    for (const entry of entries) expect(entry).toMatchObject(billed);
    expect(new Set(entries.slice(1).map(({ pool }) => pool))).toEqual(new Set(['pool-b']));
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ held: 0, used: entries.length * 10 });
    await rig.settler.tick();
    await rig.settler.tick();
    expect([a.unacknowledged, b.unacknowledged]).toEqual([0, 0]);
    expect(await rig.entries()).toHaveLength(entries.length);
  });

  test('keeps its id', async () => {
    scripts({ tamper: { event: 4, how: 'cut' } });
    const response = await rig.request('POST', '/v1/completions', {
      key: tenant.key,
      body: { ...request, stream: true },
    });
    const ids = idsOf(await response.text());
    expect(ids.size).toBe(1);
    expect(`req_${[...ids][0]?.slice('cmpl-'.length)}`).toBe(response.headers.get('x-request-id'));
  });

  test.each([0, 2])(
    'goes on at its own pool after %i tokens where that comes back, though its receipt says lost',
    async (tokens) => {
      await b.kill();
      await rig.refresh();
      const dies = diesAfter(a, tokens);
      scripts({
        beforeToken: async (position) => {
          if (position < tokens) return;
          await dies(position);
          await a.start();
          // The settler sees the receipt of a lost request before its relay has gone on: it must leave it.
          for (let i = 0; i < 5; i++) await rig.settler.tick();
          a.script = {};
        },
      });
      const chunks = await told({ ...request, echo: false, n: 1 });
      const texts = chunks.map((chunk) => (chunk as { choices?: { text: string }[] }).choices?.[0]?.text ?? '');
      expect(texts.join('')).toBe(' w0 w1 w2 w3');
      expect(await rig.entries()).toMatchObject([{ outcome: 'completed', outputTokens: 4, pool: 'pool-a' }]);
    },
  );

  test('that was not begun begins anew at its own pool, where a receipt of the first try lies', async () => {
    await b.kill();
    await rig.refresh();
    let tries = 0;
    a.script = {
      get tamper() {
        return tries++ === 0 ? ({ event: 0, how: 'cut' } as const) : undefined;
      },
    } as Script;
    expect((await told({ ...request, echo: false, n: 1 })).at(-1)).toBe('[DONE]');
    expect(a.requests.length).toBeGreaterThan(1);
    expect(await rig.entries()).toMatchObject([{ outcome: 'completed', outputTokens: 4 }]);
  });

  test('that has begun goes on nowhere but where the fingerprint is equal: it ends in an error and pays for what it got', async () => {
    b.fingerprint = 'fp_other';
    await rig.refresh();
    scripts({ beforeToken: diesAfter(a, 2) });
    const events = await told({ ...request, n: 1, echo: false });
    expect(events.at(-1)).toMatchObject({ error: { code: 'no_pool_ready' } });
    expect(b.requests).toEqual([]);
    await a.start();
    await rig.refresh();
    await rig.settler.tick();
    await rig.unheld();
    expect(await rig.entries()).toMatchObject([{ outcome: 'failed', outputTokens: 2, pool: 'pool-a' }]);
  });

  test('goes on at the only pool of its fingerprint though the breaker of that is open', async () => {
    const c = new ScriptedPool('pool-c');
    await c.start();
    try {
      c.fingerprint = 'fp_other';
      await know(a, b, c);
      const { registry, clock } = rig.ports;
      const breaker = registry.byId('pool-b')?.breaker;
      const nowMs = clock.now();
      // Open for longer than a stream waits for a place.
      for (const inMs of [0, 0, 0, 0, 0, 1000, 3000]) breaker?.failed(nowMs + inMs);
      expect(breaker?.closed(nowMs + 6000)).toBe(false);
      scripts({ beforeToken: diesAfter(a, 2) });
      expect((await told({ ...request, n: 1, echo: false })).at(-1)).toBe('[DONE]');
      expect([b.requests.length, c.requests.length]).toEqual([1, 0]);
      await rig.unheld();
      expect(await rig.entries()).toMatchObject([{ outcome: 'completed', outputTokens: 4, pool: 'pool-b' }]);
    } finally {
      await c.kill();
    }
  });

  test('waits for the room that the only other pool has none of yet', async () => {
    const refuse = { status: 503, message: 'Full.', type: 'server_error', param: null, code: 'overloaded' };
    scripts({ beforeToken: diesAfter(a, 2) }, { refuse: { ...refuse, resumable: true } });
    void rig.ports.clock.sleep(1000).then(() => {
      b.script = {};
    });
    const events = await told({ ...request, n: 1, echo: false });
    expect(events.at(-1)).toBe('[DONE]');
    await rig.unheld();
    expect(await rig.entries()).toMatchObject([{ outcome: 'completed', outputTokens: 4, pool: 'pool-b' }]);
  });

  test('goes on in no more bytes than it came in and its ids have: a pool has a bound on those', async () => {
    scripts({ beforeToken: diesAfter(a, 2) });
    const prompt = 'a'.repeat(4000);
    expect((await told({ ...request, prompt, n: 1, echo: false })).at(-1)).toBe('[DONE]');
    const { resume, ...rest } = { ...b.requests[0]?.body };
    expect(resume).toHaveProperty('prompts', [Array(4000).fill(97)]);
    expect(JSON.stringify(rest).length).toBeLessThan(1000);
  });

  test('whose pools all fail again and again ends at last', async () => {
    scripts({ tamper: { event: 1, how: 'cut' } }, { tamper: { event: 1, how: 'cut' } });
    const events = await told({ ...request, n: 1, echo: false });
    expect(events.at(-1)).toHaveProperty('error');
    expect(a.requests.length + b.requests.length).toBe(8);
  });
});

describe('what the pool says itself', () => {
  const error = {
    status: 503,
    message: 'The engine was lost.',
    type: 'server_error',
    param: null,
    code: 'no_pool_ready',
  };

  test('it gave the request up, and another may go on: so it does', async () => {
    scripts({ failAfter: { tokens: 3, error: { ...error, resumable: true } } });
    const whole = await (async () => {
      const before = a.script;
      a.script = {};
      const events = await told(REQUEST);
      a.script = before;
      return events;
    })();
    expect(await told(REQUEST)).toEqual(whole);
    await rig.settler.tick();
    expect(await rig.entries()).toMatchObject([{ outputTokens: 8 }, { outputTokens: 8, outcome: 'completed' }]);
  });

  test('it gave the request up, and nobody else would do better', async () => {
    scripts({ failAfter: { tokens: 3, error: { ...error, status: 504, code: 'deadline_exceeded' } } });
    expect((await told(REQUEST)).at(-1)).toMatchObject({ error: { code: 'deadline_exceeded' } });
    expect(b.requests).toEqual([]);
  });

  test('it gave the request up for good: it is there for the next one', async () => {
    await b.kill();
    await rig.refresh();
    scripts({ failAfter: { tokens: 1, error: { ...error, status: 500, code: 'internal_error' } } });
    for (let i = 0; i < 2; i++)
      expect((await told(REQUEST)).at(-1)).toMatchObject({ error: { code: 'internal_error' } });
    expect(a.requests).toHaveLength(2);
  });

  test('the time that a client gave its request was short: nobody else goes without the pool for it', async () => {
    scripts({ failAfter: { tokens: 1, error: { ...error, status: 504, code: 'deadline_exceeded' } } });
    for (let i = 0; i < 6; i++) {
      const answer = await rig.request('POST', '/v1/completions', { key: tenant.key, body: { ...REQUEST, n: 1 } });
      expect(answer.status).toBe(504);
    }
    expect(a.requests).toHaveLength(6);
  });

  test.each([
    [true, 200],
    [undefined, 503],
  ] as const)('it refuses, and another may take it: %s', async (resumable, status) => {
    scripts({ refuse: { ...error, code: 'overloaded', ...(resumable && { resumable }) } });
    const answer = await rig.request('POST', '/v1/completions', { key: tenant.key, body: REQUEST });
    expect(answer.status).toBe(status);
    expect(JSON.stringify(await bodyOf(answer))).not.toContain('resumable');
    expect(b.requests).toHaveLength(resumable ? 1 : 0);
  });

  test('all refuse: the client is told so at once, and when to come again', async () => {
    const refuse = { ...error, code: 'overloaded', resumable: true as const };
    scripts({ refuse }, { refuse });
    const startedMs = Date.now();
    const answer = await rig.request('POST', '/v1/completions', { key: tenant.key, body: REQUEST });
    expect(answer.status).toBe(503);
    expect(Date.now() - startedMs).toBeLessThan(1000);
    expect(await rig.entries()).toMatchObject([{ outcome: 'refused', outputTokens: 0 }]);
  });
});

test('a reservation that took too long is no fault of the pool, which then gets the request all the same', async () => {
  await know(a);
  const { registry, ledger, clock } = rig.ports;
  let aheadMs = 0;
  const admit = ledger.admit.bind(ledger);
  Object.assign(rig.ports, { clock: { ...clock, now: () => clock.now() + aheadMs } });
  ledger.admit = async (command) => {
    const admission = await admit(command);
    aheadMs += 31_000;
    return admission;
  };
  const [pool] = registry.pools;
  for (let i = 0; i < 6; i++) {
    expect((await told({ ...REQUEST, n: 1 })).at(-1)).toBe('[DONE]');
    expect([pool?.failures, pool?.breaker.closed(clock.now())]).toEqual([0, true]);
  }
  expect(a.requests).toHaveLength(6);
  expect(rig.logged.filter((line) => line.includes('pool_failed'))).toEqual([]);
  await rig.unheld();
  expect((await rig.entries()).map(({ outcome }) => outcome)).toEqual(Array(6).fill('completed'));
});

test('a whole answer that was not begun is made by another pool, of another fingerprint, and says which', async () => {
  b.fingerprint = 'fp_other';
  await rig.refresh();
  scripts({ tamper: { event: 0, how: 'cut' } });
  const answer = await rig.request('POST', '/v1/completions', { key: tenant.key, body: REQUEST });
  expect(await bodyOf<object>(answer)).toMatchObject({ system_fingerprint: 'fp_other' });
  expect(await rig.entries()).toMatchObject([{ outcome: 'completed', pool: 'pool-b' }]);
});

test('a client that leaves while its request waits for a pool leaves no hold, and pays for what it got', async () => {
  await b.kill();
  const leaving = new AbortController();
  scripts({ beforeToken: diesAfter(a, 2) });
  const asking = told({ ...REQUEST, n: 1, echo: false }, leaving.signal).catch(() => {});
  await rig.ports.clock.sleep(300);
  leaving.abort();
  await asking;
  await a.start();
  await rig.refresh();
  await rig.settler.tick();
  await rig.unheld();
  expect(await rig.entries()).toMatchObject([{ outputTokens: 2 }]);
});

test('what an earlier pool says of a request does not make the one that may still take it seem too late', async () => {
  // Its relay signed it for the second pool just now, and gave up; there it has not arrived, and can't be fenced.
  const { clock } = rig.ports;
  scripts({ beforeToken: diesAfter(a, 2) }, { beforeAnswer: () => new Promise(() => {}), olderVersion: true });
  const leaving = new AbortController();
  const asking = told({ ...REQUEST, n: 1, echo: false }, leaving.signal).catch(() => {});
  await eventually('it is at the second', async () => b.requests.length > 0);
  const { requestId = '' } = b.requests[0]?.context ?? {};
  await a.start();
  await rig.refresh();
  rig.settler.leave({ requestId, tenant: tenant.id, pool: 'pool-b', deadlineMs: clock.now() + 60_000 });
  for (let i = 0; i < 3; i++) await rig.settler.tick();
  expect(a.unacknowledged).toBe(0);
  expect(await rig.ledger.holds({ limit: 10 })).toMatchObject([{ requestId, pool: 'pool-b' }]);
  leaving.abort();
  await b.kill();
  await asking;
});

test('an idempotency key replays what two pools said together', async () => {
  scripts({ tamper: { event: 5, how: 'cut' } });
  const ask = () => rig.request('POST', '/v1/completions', { key: tenant.key, body: REQUEST, idempotencyKey: 'once' });
  const first = await (await ask()).text();
  const again = await ask();
  expect(again.headers.get('idempotent-replayed')).toBe('true');
  expect(await again.text()).toBe(first);
  expect(await rig.entries()).toHaveLength(1);
});
