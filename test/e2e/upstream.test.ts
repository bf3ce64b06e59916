// A foreign server behind the whole system, as `npm start` runs it: the same keys, quotas and bill as for an engine of our own, tenants kept
// apart, and receipts that survive whatever dies. The server is scripted; a real one is in upstreamLive.test.ts.
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { ScriptedUpstream } from '../support/scriptedUpstream.ts';
import { type System, startSystem } from '../support/system.ts';

const upstream = new ScriptedUpstream('vllm');
const plain = new ScriptedUpstream('openai');
let system: System;

beforeAll(async () => {
  upstream.waiting = 0; // with a queue, the other would be asked first
  plain.apiKey = 'sk-of-the-upstream';
  process.env.PLAIN_KEY = plain.apiKey;
  await Promise.all([upstream.start(), plain.start()]);
  const both = { id: 'both', name: 'm' };
  const models = [{ id: 'served', name: 'm' }, both];
  system = await startSystem({
    models: [],
    pools: [
      { id: 'a100', kind: 'openai', make: 'vllm', url: upstream.url, models },
      {
        ...{ id: 'other', kind: 'openai', make: 'openai', url: plain.url, apiKeyEnv: 'PLAIN_KEY', sharedCache: true },
        models: [
          { id: 'plain', name: 'm', contextLength: 512 },
          { ...both, contextLength: 512 },
        ],
      },
    ],
  });
}, 120_000);

afterAll(async () => {
  delete process.env.PLAIN_KEY;
  expect(await system.stop()).toBe(0);
  await Promise.all([upstream.kill(), plain.kill()]);
});

afterEach(() => {
  for (const server of [upstream, plain]) {
    server.script = {};
    server.seen.length = 0;
  }
});

interface Row {
  project_id: string;
  model: string;
  outcome: string;
  input_tokens: number;
  input_cached_tokens: number;
  output_tokens: number;
}

/** Of a project, once there are so many. */
async function rowsOf(project: string, least: number): Promise<Row[]> {
  let rows: Row[] = [];
  await eventually('the rows', async () => {
    const answer = await fetch(`${system.baseURL}/organization/usage/export?format=jsonl&start_time=0`, {
      headers: { authorization: `Bearer ${system.adminKey}` },
    });
    const lines = (await answer.text()).split('\n').filter(Boolean);
    rows = lines.map((line): Row => JSON.parse(line)).filter((row) => row.project_id === project);
    return rows.length >= least;
  });
  return rows;
}

const ask = (content: string): { role: 'user'; content: string }[] => [{ role: 'user', content }];

test('the official client gets answers, streamed and whole, and the bill is the usage that the server told', async () => {
  const { client, id } = await system.tenant('bill');
  upstream.script = { text: 'hello', cached: 4 };
  const whole = await client.chat.completions.create({ model: 'served', messages: ask('abcde'), max_tokens: 20 });
  expect(whole.choices[0]).toMatchObject({ message: { role: 'assistant', content: 'hello' }, finish_reason: 'stop' });
  expect(whole.usage).toMatchObject({
    prompt_tokens: 12,
    completion_tokens: 6,
    prompt_tokens_details: { cached_tokens: 4 },
  });

  const stream = await client.chat.completions.create({
    ...{ model: 'served', messages: ask('abcde'), max_tokens: 3, stream: true },
    stream_options: { include_usage: true },
  });
  const chunks = await Array.fromAsync(stream);
  expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe('hel');
  expect(chunks[0]?.choices[0]?.delta.role).toBe('assistant');
  expect(chunks.at(-1)?.usage).toMatchObject({ prompt_tokens: 12, completion_tokens: 3 });

  plain.script = { text: 'hi', cached: 1 };
  const other = await client.completions.create({ model: 'plain', prompt: 'abc', max_tokens: 9 });
  expect(other).toMatchObject({ choices: [{ text: 'hi' }], usage: { prompt_tokens: 3, completion_tokens: 3 } });
  expect(plain.asked[0]?.authorization).toBe('Bearer sk-of-the-upstream');

  const rows = await rowsOf(id, 3);
  expect(
    rows.map((row) => [row.model, row.outcome, row.input_tokens, row.input_cached_tokens, row.output_tokens]),
  ).toEqual([
    ['served', 'completed', 12, 4, 6],
    ['served', 'completed', 12, 4, 3],
    ['plain', 'completed', 3, 1, 3],
  ]);
  const listed = (await client.models.list()).data.map((model) => model.id).sort();
  expect(listed).toEqual(['both', 'plain', 'served']);
});

test('usage at the end is the bill, also where it is less than what was counted on the way', async () => {
  const { client, id } = await system.tenant('corrected');
  plain.script = { usage: { prompt: 12, completion: 2 } };
  const messages = ask('abcde');
  const { usage } = await client.chat.completions.create({ model: 'plain', messages, max_tokens: 5 });
  expect([usage?.prompt_tokens, usage?.completion_tokens]).toEqual([12, 2]);
  expect(await rowsOf(id, 1)).toMatchObject([{ outcome: 'completed', input_tokens: 12, output_tokens: 2 }]);
});

test('what the make has no word for is refused with its name', async () => {
  const { client } = await system.tenant('refused');
  const asked = client.chat.completions.create({ model: 'plain', messages: ask('a'), n: 2 });
  await expect(asked).rejects.toMatchObject({ status: 400, code: 'unsupported_parameter', param: 'n' });
  expect(plain.asked).toEqual([]);
});

test('a burst against a quota never passes it', async () => {
  const limit = 400;
  const tenant = await system.tenant('burst', [{ window: 'lifetime', limit_tokens: limit }]);
  upstream.script = { tokenMs: 2 };
  const burst = Array.from({ length: 40 }, () =>
    tenant.client.chat.completions.create({ model: 'served', messages: ask('abcde'), max_tokens: 10 }).then(
      ({ usage }) => usage?.total_tokens ?? 0,
      (error: unknown) => {
        expect(error).toBeInstanceOf(OpenAI.RateLimitError);
        return 0;
      },
    ),
  );
  const told = (await Promise.all(burst)).reduce((sum, one) => sum + one, 0);
  expect(told).toBeGreaterThan(0);
  expect(told).toBeLessThanOrEqual(limit);
  const rows = await rowsOf(tenant.id, told / 22);
  expect(rows.reduce((sum, row) => sum + row.input_tokens + row.output_tokens, 0)).toBe(told);
});

test('two tenants with one prompt have caches of their own, whatever salt they bring', async () => {
  upstream.script = { text: 'x' };
  const tenants = [await system.tenant('a'), await system.tenant('b')];
  const saltOf = async ({ client }: { client: OpenAI }, cache_salt?: string) => {
    const before = upstream.asked.length;
    const extra = cache_salt === undefined ? {} : { cache_salt };
    await client.chat.completions.create({ model: 'served', messages: ask('one prompt'), max_tokens: 2, ...extra });
    return upstream.asked[before]?.body.cache_salt;
  };
  const [a, b] = [await saltOf(tenants[0]!), await saltOf(tenants[1]!)];
  expect(a).toBe(await saltOf(tenants[0]!));
  const salted = [
    await saltOf(tenants[0]!, 'mine'),
    await saltOf(tenants[1]!, 'mine'),
    await saltOf(tenants[1]!, String(a)),
  ];
  const all = [a, b, ...salted];
  expect(new Set(all).size).toBe(all.length);
  for (const salt of all) expect(String(salt).length).toBeGreaterThanOrEqual(32);
});

test('a stream that breaks is an error, billed by what is proven: exactly, or marked as an estimate', async () => {
  const { client, id } = await system.tenant('breaks');
  for (const [model, server] of [
    ['served', upstream],
    ['plain', plain],
  ] as const) {
    server.script = { after: { tokens: 3, comes: 'break' } };
    const stream = await client.chat.completions.create({ model, messages: ask('abcde'), max_tokens: 9, stream: true });
    await expect(Array.fromAsync(stream)).rejects.toThrow();
    await eventually('it is asked again', async () => (await readyz()) === 200);
  }
  const rows = await rowsOf(id, 2);
  expect(rows.map((row) => [row.model, row.outcome, row.input_tokens, row.output_tokens])).toEqual([
    ['served', 'failed', 12, 3],
    ['plain', 'estimated', 12, 3],
  ]);
  const { estimated } = await system.admin<{ estimated: { num_model_requests: number } }>(
    'GET',
    '/organization/usage/reconciliation',
  );
  expect(estimated.num_model_requests).toBeGreaterThanOrEqual(1);
});

test('a request that one server refuses, or drops before a word, is served by another that has the model', async () => {
  const { client, id } = await system.tenant('elsewhere');
  plain.script = { text: 'here' };
  let sent = 0;
  for (const script of [
    { refuse: { status: 500 } },
    { refuse: { status: 429 } },
    { after: { tokens: 0, comes: 'break' as const } },
  ]) {
    upstream.script = script;
    upstream.seen.length = 0;
    // Whom a request goes to first is the gateway's choice.
    await eventually('it is asked first', async () => {
      const messages = ask(String(1000 + sent++));
      const answer = await client.chat.completions.create({ model: 'both', messages, max_tokens: 9 });
      expect(answer.choices[0]?.message.content).toBe('here');
      return upstream.asked.length > 0;
    });
  }
  const rows = await rowsOf(id, sent);
  expect(rows.map((row) => [row.outcome, row.input_tokens, row.output_tokens])).toEqual(
    Array.from({ length: sent }, () => ['completed', 11, 5]),
  );
});

test('kill -9 of the pools: what left it is on the bill, nothing is held, and it serves again', async () => {
  const tenant = await system.tenant('killed', [{ window: 'lifetime', limit_tokens: 10_000 }]);
  upstream.script = { tokenMs: 30 };
  const stream = await tenant.client.chat.completions.create({
    ...{ model: 'served', messages: ask('abcde'), max_tokens: 300, stream: true },
  });
  let seen = 0;
  const reading = (async () => {
    for await (const chunk of stream) {
      seen += (chunk.choices[0]?.delta.content ?? '').length;
      if (seen !== 4) continue;
      // Of the two that run, both: which is whose doesn't show.
      for (const pid of system.pids('pool/upstream/main.ts')) process.kill(pid, 'SIGKILL');
    }
  })();
  await expect(reading).rejects.toThrow();
  const [row] = await rowsOf(tenant.id, 1);
  expect(row?.outcome).toBe('failed');
  expect(row?.input_tokens).toBe(12);
  expect(row?.output_tokens).toBeGreaterThanOrEqual(seen);
  const held = async () => {
    const answer = await fetch(`${system.baseURL}/key`, { headers: { authorization: `Bearer ${tenant.key}` } });
    return ((await answer.json()) as { limits: { held: number }[] }).limits.every((limit) => limit.held === 0);
  };
  await eventually('nothing is held', held);
  upstream.script = { text: 'back' };
  await eventually('it serves again', async () => (await readyz()) === 200);
  const again = await tenant.client.chat.completions.create({ model: 'served', messages: ask('a'), max_tokens: 9 });
  expect(again.choices[0]?.message.content).toBe('back');
});

async function readyz(): Promise<number> {
  const answer = await fetch(`${system.baseURL.replace(/\/v1$/, '')}/readyz`);
  await answer.body?.cancel();
  return answer.status;
}
