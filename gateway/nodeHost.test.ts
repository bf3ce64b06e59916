// The gateway as its own process, driven by the official client over real sockets: section on stdin, credentials, streams, leavers,
// signals, a second start on the same folder, and a kill -9 with a hold open.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import OpenAI from 'openai';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ScriptedPool } from '../test/support/scriptedPool.ts';
import type { GatewaySectionInput } from './config.ts';
import type { DevCredentials } from './devCredentials.ts';
import { GATEWAY_NODE_FLAGS } from './processProtocol.ts';

interface Message {
  type: string;
  port?: number;
  message?: string;
}

let folder: string;
let pool: ScriptedPool;
let children: ChildProcess[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  children = [];
  pool = new ScriptedPool();
  await pool.start();
});
afterEach(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  await pool.kill();
  rmSync(folder, { recursive: true, force: true });
});

const credentials = (): DevCredentials => JSON.parse(readFileSync(join(folder, 'dev-credentials.json'), 'utf8'));

function section(extra: Partial<GatewaySectionInput> = {}): GatewaySectionInput {
  const { id, url, keyId, secretHex, model } = pool;
  return { port: 0, dataDir: folder, pools: [{ id, url, keyId, secretHex, models: [model] }], drainMs: 500, ...extra };
}

async function start(
  input: unknown = section(),
): Promise<{ child: ChildProcess; said: Message; exited: Promise<number | null> }> {
  const child = spawn(process.execPath, [...GATEWAY_NODE_FLAGS, join(import.meta.dirname, 'node.ts')], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  children.push(child);
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  const lines = createInterface({ input: child.stdout });
  child.stdin.write(`${JSON.stringify(input)}\n`);
  const line = await new Promise<string>((resolve) => lines.once('line', resolve));
  const said: Message = JSON.parse(line);
  if (said.type === 'ready') await until(async () => (await fetch(`http://127.0.0.1:${said.port}/readyz`)).ok);
  return { child, said, exited };
}

async function until(check: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('it did not come to pass within ten seconds');
}

const clientOf = ({ baseURL, apiKey, adminKey } = credentials()) =>
  new OpenAI({ baseURL, apiKey, adminAPIKey: adminKey, maxRetries: 0 });
const say = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Hi' }] };

async function held(): Promise<{ used: number; held: number }> {
  const { baseURL, apiKey } = credentials();
  const response = await fetch(`${baseURL}/key`, { headers: { authorization: `Bearer ${apiKey}` } });
  const { limits }: { limits: { used: number; held: number }[] } = JSON.parse(await response.text());
  return limits[0] ?? { used: -1, held: -1 };
}

test('the official client chats, streams, completes and administers', async () => {
  await start();
  expect(statSync(join(folder, 'dev-credentials.json')).mode & 0o777).toBe(0o600);
  expect(statSync(join(folder, 'secrets.json')).mode & 0o777).toBe(0o600);
  const client = clientOf();
  const chat = await client.chat.completions.create({ ...say, max_tokens: 2 });
  expect(chat.choices[0]?.message.content).toBe(' w0 w1');

  const stream = await client.chat.completions.create({
    ...say,
    max_tokens: 3,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage ?? usage;
  }
  expect(text).toBe(' w0 w1 w2');
  expect(usage?.total_tokens).toBe(12);
  const completion = await client.completions.create({ model: 'tiny', prompt: 'a', max_tokens: 1, echo: true });
  expect(completion.choices[0]?.text).toBe('a w0');
  expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['tiny']);
  await expect(client.models.retrieve('none')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });

  const { organization } = client.admin;
  const project = await organization.projects.create({ name: 'acme' });
  const account = await organization.projects.serviceAccounts.create(project.id, { name: 'ci' });
  const theirs = new OpenAI({ baseURL: credentials().baseURL, apiKey: account.api_key?.value ?? '', maxRetries: 0 });
  await theirs.chat.completions.create({ ...say, max_tokens: 4 });
  const names: string[] = [];
  for await (const one of organization.projects.list({ limit: 1 })) names.push(one.name ?? '');
  expect(names).toEqual(['dev', 'acme']);
  const page = await organization.usage.completions({
    start_time: Math.floor(Date.now() / 1000) - 3600,
    bucket_width: '1d',
    group_by: ['project_id'],
    project_ids: [project.id],
  });
  const results = page.data.flatMap((bucket) => bucket.results);
  expect(results).toMatchObject([{ project_id: project.id, input_tokens: 9, output_tokens: 4, num_model_requests: 1 }]);
  for await (const key of organization.projects.apiKeys.list(project.id)) {
    expect(key.redacted_value).not.toBe(account.api_key?.value);
    await organization.projects.apiKeys.delete(key.id, { project_id: project.id });
  }
  await expect(theirs.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
});

test('a client that closes its connection ends the request at the pool and leaves no hold', async () => {
  await start();
  pool.script = { beforeToken: () => new Promise((resolve) => setTimeout(resolve, 10)) };
  const stream = await clientOf().chat.completions.create({ ...say, max_tokens: 2000, stream: true });
  let received = 0;
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content && ++received === 5) break;
  await until(async () => (await held()).held === 0);
  const { used } = await held();
  expect(used).toBeGreaterThanOrEqual(9 + 5);
  expect(used).toBeLessThan(9 + 1000);

  const leaving = new AbortController();
  const whole = clientOf().chat.completions.create({ ...say, max_tokens: 2000 }, { signal: leaving.signal });
  await until(async () => (await held()).held > 0);
  leaving.abort();
  await expect(whole).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
  await until(async () => (await held()).held === 0);
});

test('a body over the limit is refused before it is read whole', async () => {
  await start(section({ limits: { maxBodyBytes: 10_000 } }));
  const { baseURL, apiKey } = credentials();
  const response = await fetch(`${baseURL}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}` },
    body: 'x'.repeat(40_000_000),
  });
  expect(response.status).toBe(413);
});

test.each(['SIGTERM', 'SIGINT', 'stdin'] as const)('%s drains and exits with 0', async (how) => {
  const { child, exited } = await start(section({ drainMs: 10_000 }));
  pool.script = { beforeToken: () => new Promise((resolve) => setTimeout(resolve, 20)) };
  const running = clientOf().chat.completions.create({ ...say, max_tokens: 20 });
  await until(async () => (await held()).held > 0);
  if (how === 'stdin') child.stdin?.end();
  else child.kill(how);
  expect((await running).usage?.completion_tokens).toBe(20);
  expect(await exited).toBe(0);
});

test('a request longer than the drain ends with an error, and is billed at the next start', async () => {
  const { child, exited } = await start(section({ drainMs: 100 }));
  pool.script = { beforeToken: () => new Promise((resolve) => setTimeout(resolve, 20)) };
  const stream = await clientOf().chat.completions.create({ ...say, max_tokens: 4000, stream: true });
  const told = (async () => {
    for await (const _ of stream);
  })();
  child.kill('SIGTERM');
  await expect(told).rejects.toBeInstanceOf(OpenAI.APIError);
  expect(await exited).toBe(0);
  await start();
  await until(async () => (await held()).held === 0);
  expect((await held()).used).toBeGreaterThan(9);
});

test('kill -9 of the gateway: the next start has the same keys and settles what was open', async () => {
  const first = await start();
  const before = credentials();
  pool.script = { beforeToken: () => new Promise((resolve) => setTimeout(resolve, 10)) };
  const running = clientOf().chat.completions.create({ ...say, max_tokens: 4000 });
  running.catch(() => {});
  await until(async () => (await held()).held > 0);
  first.child.kill('SIGKILL');
  await first.exited;
  await start();
  expect({ ...credentials(), baseURL: '' }).toEqual({ ...before, baseURL: '' });
  await until(async () => (await held()).held === 0);
  expect((await held()).used).toBeGreaterThanOrEqual(9);
  expect(pool.unacknowledged).toBe(0);
});

test('a second gateway on the same folder is refused', async () => {
  await start();
  const { said, exited } = await start();
  expect(said).toMatchObject({ type: 'fatal', message: expect.stringContaining('Another gateway uses the folder') });
  expect(await exited).toBe(1);
});

test('a wrong section is fatal, names the key and shows no secret', async () => {
  const { said, exited } = await start({
    ...section(),
    host: '0.0.0.0',
    peppers: [{ version: 1, secretHex: 'hunter2' }],
  });
  expect(said.type).toBe('fatal');
  expect(said.message).toMatch(/peppers\.0\.secretHex/);
  expect(said.message).not.toContain('hunter2');
  expect(await exited).toBe(1);
});

/** Sends bytes as they are. `take` waits for what comes back until the connection ends. */
async function raw(port: number, text: string): Promise<{ socket: Socket; take: () => Promise<string> }> {
  const socket = connect(port, '127.0.0.1').pause();
  await new Promise((resolve) => socket.once('connect', resolve));
  socket.write(text);
  const take = async () => {
    const pieces: Buffer[] = [];
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    socket.on('error', () => {}); // cut off; `close` follows
    await new Promise((resolve) => socket.once('close', resolve).resume());
    return Buffer.concat(pieces).toString('latin1');
  };
  return { socket, take };
}

const completionRequest = (body: string, length = body.length) =>
  `POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${credentials().apiKey}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${length}\r\n\r\n${body}`;

test('a client that takes nothing of its answer is cut off when its request must be over', async () => {
  pool.script = { tokens: Array.from({ length: 5 }, () => 'x'.repeat(4_000_000)) };
  const body = JSON.stringify({ model: 'tiny', prompt: 'a', max_tokens: 5 });
  const patient = await start();
  const reading = await raw(patient.said.port ?? 0, completionRequest(body));
  expect((await reading.take()).length, 'more than sockets buffer').toBeGreaterThan(20_000_000);
  patient.child.kill('SIGTERM');
  await patient.exited;
  const { said } = await start(section({ limits: { requestTimeoutMs: 1200, holdMarginMs: 300 } }));
  const stalled = await raw(said.port ?? 0, completionRequest(body));
  await new Promise((resolve) => setTimeout(resolve, 5000));
  expect((await stalled.take()).length).toBeLessThan(20_000_000);
});

test('a body that is cut off is no error of ours', async () => {
  const { said } = await start();
  const { socket } = await raw(said.port ?? 0, completionRequest('{"model":', 100));
  await new Promise((resolve) => setTimeout(resolve, 100));
  socket.destroy();
  const answered = async () => {
    const headers = { authorization: `Bearer ${credentials().adminKey}` };
    return await (await fetch(`http://127.0.0.1:${said.port}/metrics`, { headers })).text();
  };
  await until(async () => (await answered()).includes('POST /v1/completions'));
  expect(await answered()).toMatch(/POST \/v1\/completions.*400/);
});

test('a check without a host name is answered', async () => {
  const { said } = await start();
  const { take } = await raw(said.port ?? 0, 'GET /healthz HTTP/1.0\r\n\r\n');
  expect(await take()).toMatch(/^HTTP\/1\.1 200 /);
});
