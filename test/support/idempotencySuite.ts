// What an Idempotency-Key promises its sender, as one suite for every host of the gateway: replays, conflicts, requests that were lost,
// and that each is billed once.
import { setTimeout as sleep } from 'node:timers/promises';
import type OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from './eventually.ts';
import { ADMIN_KEY, bodyOf, type GatewayClient, type Tenant } from './gatewayClient.ts';
import type { ScriptedPool } from './scriptedPool.ts';

export interface KeyedHost {
  client: GatewayClient;
  pool: ScriptedPool;
  /** Ends the gateway's process, or the object, with all that runs; a new one goes on with what is stored. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

interface Row {
  request_id: string;
  input_tokens: number;
  output_tokens: number;
  outcome: string;
}

const PROMPT = 9;
const CHAT = '/v1/chat/completions';

export function idempotencySuite(name: string, open: (limits: { idempotencyKeepMs: number }) => Promise<KeyedHost>) {
  describe(name, () => {
    let host: KeyedHost;
    let tenant: Tenant;
    const start = async (idempotencyKeepMs = 86_400_000) => {
      host = await open({ idempotencyKeepMs });
      tenant = await host.client.tenant([{ window: 'lifetime', limit_tokens: 1000 }]);
    };
    beforeEach(() => start());
    afterEach(() => host.close());

    const chat = (extra: object = {}) => ({
      ...{ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 3 },
      ...extra,
    });
    const post = (
      idempotencyKey: string,
      body: unknown = chat(),
      options: { key?: string; signal?: AbortSignal } = {},
    ) => host.client.request('POST', CHAT, { key: tenant.key, body, idempotencyKey, ...options });
    const limit = async () => (await host.client.limits(tenant.key))[0];
    const rows = async (): Promise<Row[]> => {
      const path = `/v1/organization/usage/export?format=jsonl&project_ids=${tenant.id}`;
      const text = await (await host.client.request('GET', path, { key: ADMIN_KEY })).text();
      return text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line));
    };
    const tokensOf = (all: readonly Row[]) => all.map((row) => [row.input_tokens, row.output_tokens]);
    const errorOf = async (response: Response) => ({ status: response.status, ...(await bodyOf(response)).error });
    /** Again and again while it is told to retry. */
    const insist = async (idempotencyKey: string, body: unknown = chat()): Promise<Response> => {
      let response = await post(idempotencyKey, body);
      await eventually('it is in progress no more', async () => {
        if (response.status !== 409) return true;
        expect(await errorOf(response)).toMatchObject({ code: 'idempotency_in_progress' });
        expect(response.headers.get('retry-after')).toBe('1');
        response = await post(idempotencyKey, body);
        return false;
      });
      return response;
    };
    /** A pool that stops before this output token until it is let go. */
    const haltBefore = (position: number) => {
      const gate = Promise.withResolvers<void>();
      host.pool.script = { beforeToken: (at) => (at === position ? gate.promise : Promise.resolve()) };
      return gate.resolve;
    };
    const releasedBy = (requestId: string) => host.pool.receipt(requestId)?.choices[0] ?? 0;

    test('a finished answer is given again, to the byte, and costs and counts nothing', async () => {
      const first = await post('k');
      const replayed = await post('k');
      expect([first.status, replayed.status]).toEqual([200, 200]);
      expect(first.headers.get('idempotent-replayed')).toBeNull();
      expect(replayed.headers.get('idempotent-replayed')).toBe('true');
      expect(replayed.headers.get('x-request-id')).toBe(first.headers.get('x-request-id'));
      expect(replayed.headers.get('content-type')).toBe(first.headers.get('content-type'));
      expect(replayed.headers.get('x-ratelimit-remaining-tokens')).toBe(String(1000 - PROMPT - 3));
      expect(await replayed.text()).toBe(await first.text());
      expect(host.pool.requests).toHaveLength(1);
      expect(await limit()).toMatchObject({ used: PROMPT + 3, held: 0 });
      expect(await rows()).toHaveLength(1);
    });

    test('a stream is given again as a stream', async () => {
      const body = chat({ stream: true, stream_options: { include_usage: true } });
      const first = await (await post('k', body)).text();
      const replayed = await post('k', body);
      expect(replayed.headers.get('content-type')).toMatch(/^text\/event-stream/);
      expect(await replayed.text()).toBe(first);
      expect(first).toMatch(/"total_tokens":12.*\n\ndata: \[DONE\]\n\n$/);
      expect(host.pool.requests).toHaveLength(1);
    });

    test.each([false, true])('what came in one go is given again whole (streamed: %s)', async (stream) => {
      host.pool.script = { atOnce: true };
      const first = await (await post('k', chat({ stream }))).text();
      const replayed = await post('k', chat({ stream }));
      expect(replayed.headers.get('idempotent-replayed')).toBe('true');
      expect(await replayed.text()).toBe(first);
      expect(first.match(/ w\d/g)?.join('')).toBe(' w0 w1 w2');
      expect(tokensOf(await rows())).toEqual([[PROMPT, 3]]);
    });

    test('a replay needs no pool and no room, and is refused with its key', async () => {
      await (await post('k')).text();
      await host.client.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 12 }]);
      expect((await post('other')).status).toBe(429);
      await host.pool.kill();
      expect((await post('k')).headers.get('idempotent-replayed')).toBe('true');
      await host.pool.start();
      await host.client.admin('DELETE', `/projects/${tenant.id}/api_keys/${tenant.keyId}`);
      expect((await post('k')).status).toBe(401);
    });

    test('keys are a tenant’s own, and another body or route under one is told so', async () => {
      await (await post('k')).text();
      const other = await host.client.tenant();
      const theirs = await post('k', chat({ max_tokens: 1 }), { key: other.key });
      expect([theirs.status, theirs.headers.get('idempotent-replayed')]).toEqual([200, null]);
      const reused = await post('k', chat({ max_tokens: 2 }));
      expect(reused.headers.get('x-should-retry')).toBe('false');
      expect(await errorOf(reused)).toMatchObject({ status: 422, code: 'idempotency_key_reused' });
      // The same request in another order of fields is the same request.
      const { model, ...rest } = chat();
      expect((await post('k', { ...rest, model })).headers.get('idempotent-replayed')).toBe('true');
      expect(host.pool.requests).toHaveLength(2);
    });

    test('a key that is none is refused by the header’s name, and runs nothing', async () => {
      for (const key of ['x'.repeat(256), 'two words', 'ключ'.normalize().replaceAll(/./g, 'é'), ''])
        expect(await errorOf(await post(key))).toMatchObject({ status: 400, param: 'Idempotency-Key' });
      expect((await post('x'.repeat(255))).status).toBe(200);
      expect(host.pool.requests).toHaveLength(1);
    });

    test('one in flight is a conflict to be retried, also for two at once', async () => {
      const goOn = haltBefore(1);
      const first = post('k');
      await eventually('it runs', async () => host.pool.requests.length === 1);
      const second = await post('k');
      expect(second.headers.get('retry-after-ms')).toBe('1000');
      expect(await errorOf(second)).toMatchObject({ status: 409, code: 'idempotency_in_progress' });
      goOn();
      expect((await first).status).toBe(200);
      const both = await Promise.all([post('two'), post('two')]);
      const statuses = both.map(({ status }) => status).sort();
      expect([[200, 200].join(), [200, 409].join()]).toContain(statuses.join());
      expect(host.pool.requests).toHaveLength(2);
      expect(await limit()).toMatchObject({ used: 2 * (PROMPT + 3), held: 0 });
    });

    test('what was refused is not stored, and runs when it may', async () => {
      expect((await post('k', chat({ max_tokens: 2000 }))).status).toBe(400);
      expect((await post('k', chat({ model: 'none' }))).status).toBe(404);
      host.pool.script = {
        refuse: { status: 503, message: 'full', type: 'server_error', param: null, code: 'overloaded' },
      };
      expect((await post('k')).status).toBe(503);
      host.pool.script = {};
      const third = await insist('k');
      expect([third.status, third.headers.get('idempotent-replayed')]).toEqual([200, null]);
      expect(await limit()).toMatchObject({ used: PROMPT + 3, held: 0 });
    });

    test('a stream that its client left is finished by a retry: the same seed, one request id, only the rest is billed', async () => {
      const leaving = new AbortController();
      const goOn = haltBefore(2);
      const body = chat({ stream: true, max_tokens: 5 });
      const first = await post('k', body, { signal: leaving.signal });
      const requestId = first.headers.get('x-request-id') ?? '';
      await eventually('two are released', async () => releasedBy(requestId) === 2);
      leaving.abort();
      await first.text().catch(() => {});
      await eventually('it is settled', async () => (await limit())?.held === 0);
      goOn();
      host.pool.script = {};
      const again = await insist('k', body);
      expect(again.headers.get('x-request-id')).toBe(requestId);
      expect(await again.text()).toMatch(/ w4[\s\S]*\[DONE\]\n\n$/);
      const [one, two] = host.pool.requests;
      expect(two?.body).toEqual(one?.body);
      expect(two?.context.requestId).toBe(`${requestId}.2`);
      expect(tokensOf(await rows())).toEqual([
        [PROMPT, 2],
        [0, 3],
      ]);
      expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
      expect((await post('k', body)).headers.get('idempotent-replayed')).toBe('true');
      expect(host.pool.requests).toHaveLength(2);
    });

    test('a retry has room for itself where its quota was just enough', async () => {
      await host.client.admin('PUT', `/projects/${tenant.id}/token_quotas`, [
        { window: 'lifetime', limit_tokens: PROMPT + 5 },
      ]);
      host.pool.script = {
        failAfter: {
          tokens: 3,
          error: { status: 503, message: 'lost', type: 'server_error', param: null, code: 'overloaded' },
        },
      };
      const body = { model: 'tiny', prompt: Array.from({ length: PROMPT }, () => 65), max_tokens: 5 };
      const ask = () => host.client.request('POST', '/v1/completions', { key: tenant.key, body, idempotencyKey: 'k' });
      expect((await ask()).status).toBe(503);
      expect(await limit()).toMatchObject({ used: PROMPT + 3, remaining: 2 });
      host.pool.script = {};
      const answer = await bodyOf<OpenAI.Completion>(await ask());
      expect(answer.choices[0]?.text).toBe(' w0 w1 w2 w3 w4');
      expect(answer.usage).toMatchObject({ prompt_tokens: PROMPT, completion_tokens: 5 });
      expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0, remaining: 0 });
    });

    test('a gateway that dies with it: a conflict until the pool has told what became of it, then the rest', async () => {
      const goOn = haltBefore(2);
      const body = chat({ stream: true, max_tokens: 4 });
      const first = await post('k', body);
      const requestId = first.headers.get('x-request-id') ?? '';
      await eventually('two are released', async () => releasedBy(requestId) === 2);
      await host.restart();
      await first.text().catch(() => {});
      goOn();
      host.pool.script = {};
      const again = await insist('k', body);
      expect(again.headers.get('x-request-id')).toBe(requestId);
      expect(await again.text()).toMatch(/\[DONE\]\n\n$/);
      expect(tokensOf(await rows())).toEqual([
        [PROMPT, 2],
        [0, 2],
      ]);
      expect(await limit()).toMatchObject({ used: PROMPT + 4, held: 0 });
    });

    test('a pool that dies with it: the bill has each position once, over several choices', async () => {
      const body = chat({ n: 2, max_tokens: 4 });
      const goOn = haltBefore(2);
      const first = post('k', body);
      await eventually('it runs', async () => releasedBy(host.pool.requests[0]?.context.requestId ?? '') === 2);
      await host.pool.kill();
      expect((await first).status).toBe(503);
      goOn();
      host.pool.script = {};
      await host.pool.start();
      await eventually('the pool is known again', async () => (await host.client.request('GET', '/readyz')).ok);
      const again = await insist('k', body);
      expect(again.status).toBe(200);
      expect((await bodyOf<OpenAI.ChatCompletion>(again)).choices).toHaveLength(2);
      expect(tokensOf(await rows())).toEqual([
        [PROMPT, 4],
        [0, 4],
      ]);
    });

    test('past its time a key is free again', async () => {
      await host.close();
      await start(1000);
      const first = await post('k');
      expect((await post('k')).headers.get('idempotent-replayed')).toBe('true');
      await sleep(1100);
      const later = await post('k', chat({ max_tokens: 1 }));
      expect([later.status, later.headers.get('idempotent-replayed')]).toEqual([200, null]);
      expect(later.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
      expect(await rows()).toHaveLength(2);
    });

    test('a request that ends badly again and again is given up', async () => {
      host.pool.script = {
        failAfter: { tokens: 1, error: { status: 503, message: 'x', type: 'server_error', param: null, code: null } },
      };
      for (let attempt = 0; attempt < 8; attempt++) expect((await insist('k')).status).toBe(503);
      const last = await post('k');
      expect(last.headers.get('x-should-retry')).toBe('false');
      expect(await errorOf(last)).toMatchObject({ status: 409, code: 'idempotency_attempts_exhausted' });
      expect(host.pool.requests).toHaveLength(8);
      expect(await limit()).toMatchObject({ used: PROMPT + 1, held: 0 });
    });
  });
}
