// The bill: what clients were told, what the usage routes say and what the export says are one number, also when a client leaves and when
// a pool is killed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type System, startSystem } from '../support/system.ts';

let system: System;
let model: string;

beforeAll(async () => {
  system = await startSystem();
  model = (await system.client.models.list()).data[0]?.id ?? '';
}, 600_000);

afterAll(async () => {
  expect(await system.stop()).toBe(0);
});

interface Exported {
  project_id: string;
  model: string;
  outcome: string;
  input_tokens: number;
  input_cached_tokens: number;
  output_tokens: number;
}

async function exportText(format: 'csv' | 'jsonl'): Promise<string> {
  const response = await fetch(`${system.baseURL}/organization/usage/export?format=${format}&start_time=0`, {
    headers: { authorization: `Bearer ${system.adminKey}` },
  });
  expect(response.status).toBe(200);
  return response.text();
}

async function rowsOf(project: string): Promise<Exported[]> {
  const text = await exportText('jsonl');
  const rows: Exported[] = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return rows.filter((row) => row.project_id === project);
}

/** Settlement after a broken stream goes by the pool's receipt: it takes a moment. */
async function eventually<T>(read: () => Promise<T>, done: (value: T) => boolean, timeoutMs = 90_000): Promise<T> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const value = await read();
    if (done(value) || Date.now() > until) return value;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const ask = (content: string): { role: 'user'; content: string }[] => [{ role: 'user', content }];

test('export and usage add up to what clients were told', async () => {
  const tenant = await system.tenant('adds up');
  const told = { input: 0, cached: 0, output: 0, requests: 0 };
  for (let i = 0; i < 6; i++) {
    const { usage } = await tenant.client.chat.completions.create({
      model,
      messages: ask(`Say something about ${'bridges and rivers '.repeat(8)} ${i % 2}`),
      max_tokens: 3 + i,
      n: 1 + (i % 2),
    });
    told.input += usage?.prompt_tokens ?? 0;
    told.cached += usage?.prompt_tokens_details?.cached_tokens ?? 0;
    told.output += usage?.completion_tokens ?? 0;
    told.requests++;
  }
  expect(told.cached).toBeGreaterThan(0);
  const rows = await eventually(
    () => rowsOf(tenant.id),
    (found) => found.length >= told.requests,
  );
  const sum = (key: 'input_tokens' | 'input_cached_tokens' | 'output_tokens'): number =>
    rows.reduce((total, row) => total + row[key], 0);
  expect({
    input: sum('input_tokens'),
    cached: sum('input_cached_tokens'),
    output: sum('output_tokens'),
    requests: rows.length,
  }).toEqual(told);

  const csv = await exportText('csv');
  const [header = '', ...lines] = csv.trim().split(/\r?\n/);
  const columns = header.split(',');
  const mine = lines
    .map((line) => line.split(','))
    .filter((cells) => cells[columns.indexOf('project_id')] === tenant.id);
  expect(mine.reduce((total, cells) => total + Number(cells[columns.indexOf('output_tokens')]), 0)).toBe(told.output);

  interface Page {
    data: { results: { input_tokens: number; output_tokens: number; num_model_requests: number }[] }[];
  }
  const day = Math.floor(Date.now() / 1000) - 3600;
  const page = await system.admin<Page>(
    'GET',
    `/organization/usage/completions?start_time=${day}&bucket_width=1h&project_ids[]=${tenant.id}`,
  );
  const results = page.data.flatMap((bucket) => bucket.results);
  expect(results.reduce((total, one) => total + one.output_tokens, 0)).toBe(told.output);
  expect(results.reduce((total, one) => total + one.num_model_requests, 0)).toBe(told.requests);
});

test('a client that leaves pays for what was released, and holds nothing', async () => {
  const tenant = await system.tenant('leaves', [{ window: 'lifetime', limit_tokens: 100_000 }]);
  const stream = await tenant.client.chat.completions.create({
    model,
    messages: ask('Write a very long story about the sea.'),
    max_tokens: 400,
    stream: true,
    temperature: 1,
    seed: 5,
  });
  let received = 0;
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) received++;
    if (received === 5) break;
  }
  const rows = await eventually(
    () => rowsOf(tenant.id),
    (found) => found.length > 0,
  );
  expect(rows).toHaveLength(1);
  expect(rows[0]?.outcome).toBe('cancelled');
  expect(rows[0]?.output_tokens).toBeGreaterThanOrEqual(5);
  expect(rows[0]?.output_tokens).toBeLessThan(200);
  const response = await fetch(`${system.baseURL}/key`, { headers: { authorization: `Bearer ${tenant.key}` } });
  const { limits } = (await response.json()) as { limits: { used: number; held: number }[] };
  expect(limits[0]).toMatchObject({ used: (rows[0]?.input_tokens ?? 0) + (rows[0]?.output_tokens ?? 0), held: 0 });
});

describe('a pool killed in the middle of a stream', () => {
  interface Chunk {
    choices?: { delta: { content?: string }; logprobs?: { content?: unknown[] } }[];
  }
  const chunksOf = (text: string): Chunk[] =>
    text.split('\n\n').flatMap((event) => (/^data: \{/.test(event) ? JSON.parse(event.slice(6)) : []));

  test('the client is told the rest all the same, and it is billed once', async () => {
    const tenant = await system.tenant('killed', [{ window: 'lifetime', limit_tokens: 100_000 }]);
    const request = () =>
      fetch(`${system.baseURL}/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          model,
          messages: ask('Write a very long story about a mountain.'),
          max_tokens: 200,
          stream: true,
          temperature: 1,
          seed: 9,
          logprobs: true,
        }),
      });
    const whole = await (await request()).text();
    const response = await request();
    expect(response.status).toBe(200);
    let text = '';
    let killed = false;
    const decoder = new TextDecoder();
    for await (const part of response.body ?? []) {
      text += decoder.decode(part, { stream: true });
      if (!killed && text.split('"logprob"').length > 6) {
        killed = true;
        const pids = system.pids('pool/main.ts');
        expect(pids.length).toBeGreaterThan(0);
        for (const pid of pids) process.kill(pid, 'SIGKILL');
      }
    }
    expect(killed).toBe(true);
    expect(text).toContain('[DONE]');
    const contents = (chunks: Chunk[]) => chunks.map(({ choices }) => choices?.[0]?.delta.content ?? '').join('');
    const logprobs = (chunks: Chunk[]) => chunks.flatMap(({ choices }) => choices?.[0]?.logprobs?.content ?? []);
    expect(contents(chunksOf(text))).toBe(contents(chunksOf(whole)));
    expect(logprobs(chunksOf(text))).toEqual(logprobs(chunksOf(whole)));

    const rows = await eventually(
      () => rowsOf(tenant.id),
      (found) => found.length > 1,
    );
    expect(rows.map(({ outcome, output_tokens }) => [outcome, output_tokens])).toEqual(
      Array.from({ length: 2 }, () => ['completed', logprobs(chunksOf(whole)).length]),
    );

    const answer = await eventually(
      () =>
        tenant.client.chat.completions.create({ model, messages: ask('Hello'), max_tokens: 4 }).then(
          (value) => value,
          () => null,
        ),
      (value) => value !== null,
    );
    expect(answer?.usage?.completion_tokens).toBeGreaterThan(0);
    const settled = await fetch(`${system.baseURL}/key`, { headers: { authorization: `Bearer ${tenant.key}` } });
    const { limits } = (await settled.json()) as { limits: { held: number }[] };
    expect(limits[0]?.held).toBe(0);
  }, 240_000);
});
