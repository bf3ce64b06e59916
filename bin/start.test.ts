// `npm start` for real: two processes, the real model, one request; then the ways in which it ends.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { testModelPath } from '../test/support/testModel.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
let folder = '';
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-start-'));
  const models = [{ id: 'real', source: `file:${await testModelPath()}`, kvBlocks: 64 }];
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ models, server: { port: 0, dataDir: join(folder, 'data') } }),
  );
});
afterEach(() => {
  for (const pid of alive()) process.kill(pid, 'SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

/** In a process group of its own, as a terminal would start it. */
function start(env: NodeJS.ProcessEnv = {}): {
  child: ChildProcess;
  output: () => string;
  ended: Promise<number | string>;
} {
  const child = spawn(process.execPath, ['bin/hearth.mjs', 'start'], {
    cwd: root,
    env: { ...process.env, HEARTH_CONFIG: join(folder, 'config.json'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const ended = new Promise<number | string>((resolve) =>
    child.on('close', (code, signal) => resolve(code ?? signal ?? '')),
  );
  return { child, output: () => text, ended };
}

async function until<T>(
  look: () => T | undefined | null | false,
  ended: Promise<unknown>,
  output: () => string,
): Promise<T> {
  let over = false;
  let how: unknown;
  ended.then((end) => {
    over = true;
    how = end;
  });
  for (;;) {
    const found = look();
    if (found) return found;
    if (over) throw new Error(`it ended (${how}):\n${output()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Living processes of this test's start, whatever group they are in; the dead ones that nobody has waited for don't count. */
function alive(): number[] {
  const mine = `HEARTH_CONFIG=${join(folder, 'config.json')}\0`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mine);
      } catch {
        return false; // ended meanwhile, or somebody else's
      }
    })
    .map(Number);
}

interface Credentials {
  baseURL: string;
  apiKey: string;
}
const credentials = (): Credentials => JSON.parse(readFileSync(join(folder, 'data/dev-credentials.json'), 'utf8'));

function chat(maxTokens: number): Promise<Response> {
  const { baseURL, apiKey } = credentials();
  return fetch(`${baseURL}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'real',
      max_tokens: maxTokens,
      stream: true,
      logit_bias: { 0: -100, 2: -100 }, // the ends that it could choose
      messages: [{ role: 'user', content: 'Tell me a long story about the sea.' }],
    }),
  });
}

it('serves with what it prints; SIGTERM to the whole group lets a stream finish, and leaves nothing', async () => {
  const { child, output, ended } = start();
  await until(() => output().includes('Stop: Ctrl-C'), ended, output);
  const { baseURL, apiKey } = credentials();
  expect(statSync(join(folder, 'data/dev-credentials.json')).mode & 0o777).toBe(0o600);
  expect(statSync(join(folder, 'data')).mode & 0o777).toBe(0o700);
  for (const printed of [
    `Base URL   ${baseURL}`,
    `API key    ${apiKey}`,
    `curl ${baseURL}/chat/completions`,
    'OpenAI(base_url=',
  ])
    expect(output()).toContain(printed);
  expect(alive()).toHaveLength(4); // launcher, start, pool, gateway
  expect((await fetch(`${baseURL.replace('/v1', '')}/readyz`)).status).toBe(200);

  const stream = await chat(24);
  expect(stream.status).toBe(200);
  const reader = stream.body?.getReader();
  expect((await reader?.read())?.done).toBe(false);
  process.kill(-(child.pid ?? 0), 'SIGTERM');
  let text = '';
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read())
    text += Buffer.from(piece.value).toString();
  expect(text).toMatch(/"finish_reason":"length"[\s\S]*data: \[DONE\]/);
  expect(await ended).toBe(0);
  expect(alive()).toEqual([]);
});

it('a second Ctrl-C ends a stream that would go on, at once', async () => {
  const { child, output, ended } = start();
  await until(() => output().includes('Stop: Ctrl-C'), ended, output);
  const stream = await chat(900); // with the banner's first breath: what it invites to is accepted
  expect(stream.status).toBe(200);
  const broken = stream.text().then(
    (text) => !text.includes('[DONE]'),
    () => true,
  );
  process.kill(-(child.pid ?? 0), 'SIGINT');
  await until(() => output().includes('Stopping'), ended, output);
  const secondAtMs = Date.now() + 2500;
  await until(() => Date.now() > secondAtMs, ended, output);
  process.kill(-(child.pid ?? 0), 'SIGINT');
  expect(await ended).toBe(130);
  expect(await broken).toBe(true);
  await until(() => alive().length === 0, new Promise(() => {}), output);
});

it('stopped while it still loads, it ends without an error', async () => {
  const { child, output, ended } = start();
  await until(() => output().includes('Model: real'), ended, output);
  process.kill(-(child.pid ?? 0), 'SIGINT');
  expect(await ended).toBe(0);
  expect(alive()).toEqual([]);
});

it('a port in use is told before anything is loaded, with the way out', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  const { output, ended } = start({ PORT: String(port) });
  expect(await ended).toBe(1);
  expect(output()).toMatch(new RegExp(`port ${port} on 127\\.0\\.0\\.1 is in use.*PORT=`));
  expect(output()).not.toContain('Adapter');
  server.close();
});

it('a configuration that is wrong, a model that is absent: each ends the start with its own words', async () => {
  writeFileSync(join(folder, 'config.json'), '{"sever":{}}');
  const wrong = start();
  expect(await wrong.ended).toBe(1);
  expect(wrong.output()).toContain('did you mean "server"?');
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ models: [{ id: 'a', source: 'file:/nonexistent.gguf' }], server: { port: 0, dataDir: folder } }),
  );
  const absent = start();
  expect(await absent.ended).toBe(1);
  expect(absent.output()).toContain('/nonexistent.gguf');
});

it('SIGHUP puts another pool in the place of the one that serves; a stream that runs ends whole, and nobody is refused', async () => {
  const { child, output, ended } = start();
  await until(() => output().includes('Stop: Ctrl-C'), ended, output);
  const stream = await chat(48);
  const text = stream.text();
  child.kill('SIGHUP');
  let asked = 0;
  while (!output().includes('All pools have been replaced.')) {
    // To its end: streams that nobody waits for would fill the tenant's queue.
    const one = await chat(2);
    expect(one.status).toBe(200);
    expect((await one.text()).trim().endsWith('data: [DONE]')).toBe(true);
    asked += 1;
  }
  expect(asked).toBeGreaterThan(1);
  expect((await text).trim().endsWith('data: [DONE]')).toBe(true);
  const log = readFileSync(join(folder, 'data/hearth.log'), 'utf8');
  expect(log).toContain('"pools":"local~, local (retired)"');
  expect(alive()).toHaveLength(4);
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
  expect(alive()).toEqual([]);
}, 300_000);
