// The official clients, unmodified, against both hosts: answers and streams, the class of each error, and that they retry what the headers
// say may be retried, and nothing else.
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EdgeRig } from '../support/edgeRig.ts';
import { eventually } from '../support/eventually.ts';
import { ADMIN_KEY, type GatewayClient, type Tenant } from '../support/gatewayClient.ts';
import { GatewayProcess } from '../support/gatewayProcess.ts';
import { MUST_HAVE_PYTHON, whyNoPython } from '../support/pipPackage.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';
import { nodeClient } from './node.ts';
import type { Call, Client, Told } from './port.ts';
import { PythonClient } from './python.ts';

type Host = GatewayClient & { readonly baseURL: string; stop(): Promise<void> };
const HOSTS: [string, (pool: ScriptedPool) => Promise<Host>][] = [
  ['Node', (pool) => GatewayProcess.start([pool])],
  ['Workers', (pool) => EdgeRig.start(pool)],
];
const CLIENTS: [string, () => Client][] = [
  ['openai for Node', () => nodeClient],
  ['openai for Python', () => new PythonClient()],
];

const CHAT = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], max_tokens: 3 };
const FULL = { status: 503, message: 'full', type: 'server_error', param: null, code: 'overloaded' };

describe.each(HOSTS)('%s', (_host, startHost) => {
  const pool = new ScriptedPool();
  let host: Host;
  beforeAll(async () => {
    await pool.start();
    host = await startHost(pool);
    return async () => {
      await host.stop();
      await pool.kill();
    };
  });

  test("Node's client draws a key for each request by itself, once it knows the header's name", async () => {
    const { key } = await host.tenant([{ window: 'day', limit_tokens: 100 }]);
    const keys: (string | null)[] = [];
    class SafelyRetrying extends OpenAI {
      protected override idempotencyHeader = 'Idempotency-Key';
    }
    const client = new SafelyRetrying({
      ...{ baseURL: host.baseURL, apiKey: key, maxRetries: 8 },
      fetch: (url, init) => {
        keys.push(new Headers(init?.headers).get('idempotency-key'));
        // Its pool fails the first time only.
        pool.script = keys.length === 1 ? { failAfter: { tokens: 2, error: FULL } } : {};
        return fetch(url, init);
      },
    });
    const chat = () => client.chat.completions.create({ ...CHAT, messages: [{ role: 'user', content: 'hi' }] });
    expect((await chat()).choices[0]?.message.content).toBe(' w0 w1 w2');
    expect(await host.limits(key)).toMatchObject([{ used: 12, held: 0 }]);
    const tries = keys.length;
    expect(tries).toBeGreaterThan(1);
    await client.chat.completions.create({ ...CHAT, messages: [] }, { idempotencyKey: 'mine' }).catch(() => {});
    await chat();
    expect(new Set(keys.slice(0, tries)).size).toBe(1);
    expect(keys.slice(tries)).toEqual(['mine', expect.not.stringMatching(keys[0] ?? '')]);
  });

  describe.each(CLIENTS)('%s', (name, openClient) => {
    let client: Client;
    let tenant: Tenant;
    let missing: string | null = null;
    beforeAll(() => {
      missing = name.includes('Python') ? whyNoPython() : null;
      if (missing && MUST_HAVE_PYTHON) throw new Error(missing);
      if (!missing) client = openClient();
    });
    afterAll(() => client?.close());
    beforeEach(async (context) => {
      if (missing) context.skip(missing);
      pool.script = {};
      tenant = await host.tenant([{ window: 'day', limit_tokens: 100 }]);
    });

    const ask = (body: object = {}, call: Partial<Call> = {}): Promise<Told> =>
      client.call({
        ...{ baseURL: host.baseURL, apiKey: tenant.key, maxRetries: 0, idempotencyKey: null },
        ...{ body: { ...CHAT, ...body }, ...call },
      });
    /** Requests that reached the gateway while `work` ran. */
    const sentBy = async (work: () => Promise<unknown>): Promise<number> => {
      const answered = async () => {
        const text = await (await host.request('GET', '/metrics', { key: ADMIN_KEY })).text();
        const counts = text.matchAll(
          /^hearth_gateway_responses_total{route="POST \/v1\/chat\/completions".*} (\d+)$/gm,
        );
        return [...counts].reduce((sum, [, n]) => sum + Number(n), 0);
      };
      const before = await answered();
      await work();
      return (await answered()) - before;
    };

    test('an answer, and the same as a stream', async () => {
      expect(await ask()).toEqual({ text: ' w0 w1 w2', tokens: 12 });
      const streamed = { stream: true, stream_options: { include_usage: true } };
      expect(await ask(streamed)).toEqual({ text: ' w0 w1 w2', tokens: 12 });
      expect(await ask(streamed, { idempotencyKey: 'k' })).toEqual({ text: ' w0 w1 w2', tokens: 12 });
      expect(await ask(streamed, { idempotencyKey: 'k' })).toEqual({ text: ' w0 w1 w2', tokens: 12 });
      expect(await host.limits(tenant.key)).toMatchObject([{ used: 36 }]);
    });

    test('each error as the class of its own', async () => {
      const refused = async (error: string, status: number, code: string | null, told: Promise<Told>) =>
        expect(await told).toEqual({ error, status, code });
      await refused('AuthenticationError', 401, 'invalid_api_key', ask({}, { apiKey: `${tenant.key}x` }));
      await refused('NotFoundError', 404, 'model_not_found', ask({ model: 'none' }));
      await refused('BadRequestError', 400, null, ask({ max_tokens: 2000 }));
      await refused('BadRequestError', 400, null, ask({}, { idempotencyKey: 'x'.repeat(256) }));
      await refused(
        'RateLimitError',
        429,
        'insufficient_quota',
        ask({ max_tokens: 80 }).then(() => ask({ max_tokens: 80 })),
      );
      await ask({ max_tokens: 1 }, { idempotencyKey: 'k' });
      await refused('UnprocessableEntityError', 422, 'idempotency_key_reused', ask({}, { idempotencyKey: 'k' }));
      await host.admin('POST', `/projects/${tenant.id}/api_keys/${tenant.keyId}`, { allowed_models: ['other'] });
      await refused('PermissionDeniedError', 403, 'model_not_allowed', ask());
    });

    test('an error of the pool, before its stream and in it', async () => {
      pool.script = { refuse: FULL };
      expect(await ask()).toEqual({ error: 'InternalServerError', status: 503, code: 'overloaded' });
      pool.script = { failAfter: { tokens: 1, error: FULL } };
      expect(await ask({ stream: true })).toEqual({ error: 'APIError', status: null, code: 'overloaded' });
    });

    test('what waiting helps is tried again, and what it doesn’t help is not', async () => {
      const gate = Promise.withResolvers<void>();
      pool.script = { beforeAnswer: () => gate.promise };
      const before = pool.requests.length;
      const first = ask({}, { idempotencyKey: 'k' });
      await eventually('the first runs', async () => pool.requests.length > before);
      const again = ask({}, { idempotencyKey: 'k', maxRetries: 5 });
      await sleep(1200);
      gate.resolve();
      const told = { text: ' w0 w1 w2', tokens: 12 };
      expect([await first, await again]).toEqual([told, told]);
      expect(await host.limits(tenant.key)).toMatchObject([{ used: 12, held: 0 }]);

      pool.script = { refuse: FULL };
      expect(await sentBy(() => ask({}, { maxRetries: 2 }))).toBe(3);
      pool.script = {};
      await ask({ max_tokens: 79 });
      expect(await host.limits(tenant.key)).toMatchObject([{ used: 100 }]);
      expect(await sentBy(() => ask({}, { maxRetries: 2 }))).toBe(1);
      expect(await sentBy(() => ask({ max_tokens: 1 }, { idempotencyKey: 'k', maxRetries: 2 }))).toBe(1);
    });
  });
});
