// `npm run edge`'s gateway process: it says when it serves, makes credentials once, and leaves nothing running.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ScriptedPool } from '../support/scriptedPool.ts';

const script = join(import.meta.dirname, '../../bin/edgeGateway.ts');
let folder: string;
let pool: ScriptedPool;
let child: ChildProcess | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-edge-'));
  pool = new ScriptedPool();
  await pool.start();
});
afterEach(async () => {
  await stop();
  await pool.kill();
  rmSync(folder, { recursive: true });
});

async function start(): Promise<{ baseURL: string }> {
  const { id, url, keyId, secretHex, model } = pool;
  const section = { dataDir: folder, port: 0, pools: [{ id, url, keyId, secretHex, models: [model] }] };
  const started = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'ignore'] });
  child = started;
  started.stdin.write(`${JSON.stringify(section)}\n`);
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: started.stdout }).once('line', resolve);
    started.once('exit', () => reject(new Error('the gateway ended before it was ready')));
  });
  const said: { type: string; baseURL: string } = JSON.parse(line);
  expect(said.type).toBe('ready');
  return said;
}

async function stop(): Promise<number | null> {
  const ending = child;
  child = undefined;
  if (!ending || ending.exitCode !== null) return ending?.exitCode ?? null;
  const exited = new Promise<number | null>((resolve) => ending.once('exit', resolve));
  ending.stdin?.end(); // as when what started it has died
  return exited;
}

const credentials = (): { apiKey: string; adminKey: string } =>
  JSON.parse(readFileSync(join(folder, 'dev-credentials.json'), 'utf8'));

const used = async (baseURL: string): Promise<number> => {
  const response = await fetch(`${baseURL}/key`, { headers: { authorization: `Bearer ${credentials().apiKey}` } });
  const { limits }: { limits: [{ used: number }] } = JSON.parse(await response.text());
  return limits[0].used;
};

test('serves with credentials of its own, and the next start has the same ones and the same ledger', async () => {
  const first = await start();
  const headers = { authorization: `Bearer ${credentials().apiKey}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ model: 'tiny', prompt: 'abc', max_tokens: 2 });
  const response = await fetch(`${first.baseURL}/completions`, { method: 'POST', headers, body });
  expect(await response.json()).toMatchObject({ choices: [{ text: ' w0 w1' }] });
  const before = credentials();
  expect(await stop()).toBe(0);
  await expect(fetch(`${first.baseURL}/key`)).rejects.toThrow();
  const second = await start();
  expect(credentials()).toMatchObject({ apiKey: before.apiKey, adminKey: before.adminKey });
  expect(await used(second.baseURL)).toBe(5);
});
