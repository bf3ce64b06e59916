// Real servers of other makes, each with the default model, behind the whole system: the same answers as they give themselves, the bill that
// they would make, and what happens when they die. They run where somebody has them: HEARTH_TEST_LLAMA_SERVER names the llama-server of
// llama.cpp, HEARTH_TEST_LLAMA_CPP_PYTHON a python with llama-cpp-python[server].
import { type ChildProcess, spawn } from 'node:child_process';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { MakeName } from '../../pool/upstream/makes/makes.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/freePort.ts';
import { askPool } from '../support/signedPoolClient.ts';
import { type System, startSystem } from '../support/system.ts';
import { testModelPath } from '../support/testModel.ts';
import { startUpstreamPool, untilState } from '../support/upstreamPool.ts';

interface Live {
  make: MakeName;
  variable: string;
  command: (executable: string, model: string, port: number) => string[];
}

interface Row {
  project_id: string;
  outcome: string;
  input_tokens: number;
  output_tokens: number;
}

const SERVERS: Live[] = [
  {
    make: 'llama.cpp',
    variable: 'HEARTH_TEST_LLAMA_SERVER',
    command: (executable, model, port) => [
      ...[executable, '-m', model, '--alias', 'm', '--host', '127.0.0.1', '--port', String(port)],
      ...['-c', '2048', '-np', '2', '-t', '2', '--metrics', '--api-key', 'sk-live'],
    ],
  },
  {
    make: 'openai',
    variable: 'HEARTH_TEST_LLAMA_CPP_PYTHON',
    command: (executable, model, port) => [
      ...[executable, '-m', 'llama_cpp.server', '--model', model, '--model_alias', 'm', '--n_threads', '2'],
      ...['--host', '127.0.0.1', '--port', String(port), '--n_ctx', '1024', '--api_key', 'sk-live'],
    ],
  },
];

const isHere = ({ variable }: Live): boolean => process.env[variable] !== undefined;

test.each(SERVERS.filter((server) => !isHere(server)))(
  '$make does not run here: $variable names no server',
  (server) => {
    expect(isHere(server)).toBe(false);
  },
);

describe.each(SERVERS.filter(isHere))('$make', ({ make, variable, command }) => {
  const executable = process.env[variable] ?? '';
  let server: ChildProcess | null = null;
  let port = 0;
  let system: System;
  let direct: OpenAI;

  async function launch(): Promise<void> {
    const [file = '', ...args] = command(executable, await testModelPath(), port);
    server = spawn(file, args, { stdio: 'ignore' });
  }

  beforeAll(async () => {
    port = await freePort();
    await launch();
    process.env.LIVE_KEY = 'sk-live';
    direct = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: 'sk-live', maxRetries: 0 });
    const pool = { id: 'live', kind: 'openai', make, url: `http://127.0.0.1:${port}`, apiKeyEnv: 'LIVE_KEY' };
    const models = [{ id: 'served', name: 'm', ...(make === 'openai' && { contextLength: 1024 }) }];
    system = await startSystem({ models: [], pools: [{ ...pool, models, sharedCache: make === 'openai' }] });
    await system.client.chat.completions.create({ model: 'served', messages: ask('warm'), max_tokens: 1 });
  }, 120_000);

  afterAll(async () => {
    delete process.env.LIVE_KEY;
    expect(await system.stop()).toBe(0);
    server?.kill('SIGKILL');
  });

  const ask = (content: string): { role: 'user'; content: string }[] => [{ role: 'user', content }];
  const GREEDY = { temperature: 0, max_tokens: 24 };

  test('says and costs what it says and costs itself', async () => {
    const { client } = await system.tenant('same');
    for (const content of [
      'Say hi.',
      'Name three colours of the rainbow, and why you like them.',
      'Zähle auf Deutsch: 日本',
    ]) {
      const own = await direct.chat.completions.create({ model: 'm', messages: ask(content), ...GREEDY });
      const here = await client.chat.completions.create({ model: 'served', messages: ask(content), ...GREEDY });
      expect(here.choices[0]?.message.content).toBe(own.choices[0]?.message.content);
      expect(here.choices[0]?.finish_reason).toBe(own.choices[0]?.finish_reason);
      expect([here.usage?.prompt_tokens, here.usage?.completion_tokens]).toEqual([
        own.usage?.prompt_tokens,
        own.usage?.completion_tokens,
      ]);
    }
  });

  test('streams', async () => {
    const stream = await system.client.chat.completions.create({
      ...{ model: 'served', messages: ask('Count to ten.'), ...GREEDY, stream: true },
      stream_options: { include_usage: true },
    });
    const chunks = await Array.fromAsync(stream);
    const texts = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').filter(Boolean);
    expect(texts.length).toBeGreaterThan(5);
    expect(chunks.at(-1)?.usage?.completion_tokens).toBeGreaterThanOrEqual(texts.length);
  });

  test('scores what it says, and stops where it is told', async () => {
    const scored = await system.client.chat.completions.create({
      ...{ model: 'served', messages: ask('Count to ten.'), ...GREEDY, max_tokens: 5 },
      ...(make === 'llama.cpp' && { logprobs: true, top_logprobs: 2 }),
    });
    if (make === 'llama.cpp') {
      const content = scored.choices[0]?.logprobs?.content ?? [];
      expect(content.map(({ token }) => token).join('')).toBe(scored.choices[0]?.message.content);
      expect(content.every(({ top_logprobs: top }) => top.length === 2)).toBe(true);
    }
    const raw = { model: 'served', prompt: 'The sea is', ...GREEDY };
    const [said] = (await system.client.completions.create(raw)).choices;
    const stop = said?.text.slice(8, 14) ?? '';
    const [stopped] = (await system.client.completions.create({ ...raw, stop })).choices;
    expect(stopped).toMatchObject({ text: said?.text.slice(0, said.text.indexOf(stop)), finish_reason: 'stop' });
  });

  test('a prompt that is too long is refused in our words, or fails where it says nothing', async () => {
    const { client, id } = await system.tenant('long');
    const messages = ask('word '.repeat(3000));
    const asked = client.chat.completions.create({ model: 'served', messages, max_tokens: 4 });
    // llama-cpp-python begins to answer, and breaks off.
    const told = make === 'llama.cpp' ? { status: 400, code: 'context_length_exceeded' } : { status: 503 };
    await expect(asked).rejects.toMatchObject(told);
    expect(await rowsOf(id)).toMatchObject([{ input_tokens: 0, output_tokens: 0 }]);
  });

  test('counts a prompt as it bills it', async () => {
    const shared = { sharedCache: make === 'openai', apiKeyEnv: 'LIVE_KEY', env: { LIVE_KEY: 'sk-live' } };
    const pool = await startUpstreamPool(make, `http://127.0.0.1:${port}`, shared);
    try {
      await untilState(pool, 'warm');
      const messages = [{ role: 'system', content: 'Be brief.' }, ...ask('What is a river? <|im_end|> é')];
      const { usage } = await direct.chat.completions.create({
        model: 'm',
        messages: messages as never,
        max_tokens: 1,
      });
      const question = { path: '/pool/count', body: { model: 'served', messages } };
      expect((await askPool(pool.address, question)).json).toEqual({ prompt_tokens: [usage?.prompt_tokens] });
      const raw = await direct.completions.create({ model: 'm', prompt: 'A river is', max_tokens: 1 });
      const counted = await askPool(pool.address, {
        path: '/pool/count',
        body: { model: 'served', prompt: 'A river is' },
      });
      expect(counted.json).toEqual({ prompt_tokens: [raw.usage?.prompt_tokens] });
    } finally {
      await pool.close();
    }
  });

  const isolated = make === 'llama.cpp' ? test : () => {};
  isolated('no tenant finds what another asked', async () => {
    const content = 'A long beginning that two tenants share, word for word, so that a cache would show. '.repeat(5);
    const cachedOf = async (client: OpenAI) => {
      const { usage } = await client.chat.completions.create({
        model: 'served',
        messages: ask(content),
        max_tokens: 2,
      });
      return usage?.prompt_tokens_details?.cached_tokens;
    };
    expect(await cachedOf((await system.tenant('a')).client)).toBe(0);
    expect(await cachedOf((await system.tenant('b')).client)).toBe(0);
    expect(await cachedOf((await system.tenant('b')).client)).toBe(0);
  });

  test('a client that leaves is not computed for any longer, and pays what it got', async () => {
    const { client, id } = await system.tenant('leaves');
    const stream = await client.chat.completions.create({
      ...{ model: 'served', messages: ask('Write a very long story.'), max_tokens: 600, stream: true },
      temperature: 1.2,
    });
    let seen = 0;
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) seen += 1;
      if (seen === 5) break; // aborts
    }
    const [row] = await rowsOf(id);
    expect(row?.output_tokens).toBeGreaterThanOrEqual(5);
    expect(row?.output_tokens).toBeLessThan(300);
    expect(row?.input_tokens).toBeGreaterThan(10);
    expect(row?.outcome).toBe(make === 'llama.cpp' ? 'cancelled' : 'estimated');
    if (make !== 'llama.cpp') return;
    await eventually('it is idle', async () => {
      const text = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { authorization: 'Bearer sk-live' } });
      return /^llamacpp:requests_processing 0$/m.test(await text.text());
    });
  });

  test('killed in the middle of an answer: an error, what was proven is billed, and it is served again when it is back', async () => {
    const { client, id } = await system.tenant('killed');
    const stream = await client.chat.completions.create({
      ...{ model: 'served', messages: ask('Write a very long story.'), max_tokens: 600, stream: true },
    });
    let seen = 0;
    const reading = (async () => {
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta.content) seen += 1;
        if (seen === 5) server?.kill('SIGKILL');
      }
    })();
    await expect(reading).rejects.toThrow();
    const [row] = await rowsOf(id);
    expect(row?.outcome).toBe(make === 'llama.cpp' ? 'failed' : 'estimated');
    expect(row?.output_tokens).toBeGreaterThanOrEqual(5);
    const refused = client.chat.completions.create({ model: 'served', messages: ask('hi'), max_tokens: 1 });
    await expect(refused).rejects.toMatchObject({ status: 503 });
    await launch();
    await eventually(
      'it serves again',
      async () => {
        const answer = client.chat.completions.create({ model: 'served', messages: ask('hi'), max_tokens: 1 });
        return answer.then(
          () => true,
          () => false,
        );
      },
      60_000,
    );
  });

  async function rowsOf(project: string): Promise<Row[]> {
    let rows: Row[] = [];
    await eventually('the row', async () => {
      const answer = await fetch(`${system.baseURL}/organization/usage/export?format=jsonl&start_time=0`, {
        headers: { authorization: `Bearer ${system.adminKey}` },
      });
      const lines = (await answer.text()).split('\n').filter(Boolean);
      rows = lines.map((line) => JSON.parse(line)).filter((row) => row.project_id === project);
      return rows.length > 0;
    });
    return rows;
  }
});
