// `npm run deliver` and `npm run reconcile` against a gateway that has billed something: processes as cron would start them.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseSection } from '../gateway/config.ts';
import { jsonLog } from '../gateway/log.ts';
import { startGateway } from '../gateway/nodeHost.ts';
import type { GatewayHost } from '../gateway/processProtocol.ts';
import { ScriptedPool } from '../test/support/scriptedPool.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
const pool = new ScriptedPool();
let host: GatewayHost;

beforeAll(async () => {
  await pool.start();
  const { id, url, keyId, secretHex, model } = pool;
  const pools = [{ id, url, keyId, secretHex, models: [model] }];
  const log = jsonLog(() => {}, Date.now);
  host = await startGateway(parseSection({ port: 0, dataDir: join(folder, 'data'), pools, drainMs: 500 }), log);
  while (!(await fetch(host.baseURL.replace('/v1', '/readyz'))).ok) await new Promise((done) => setTimeout(done, 20));
});
afterAll(async () => {
  await host.stop();
  await pool.kill();
  rmSync(folder, { recursive: true });
});

async function run(command: string, ...args: string[]): Promise<{ code: number; output: string }> {
  const env = { ...process.env, HEARTH_ADMIN_KEY: host.credentials?.adminKey };
  const url = ['--url', host.baseURL.replace('/v1', '')];
  return promisify(execFile)(process.execPath, [join(import.meta.dirname, command), ...url, ...args], { env }).then(
    ({ stdout }) => ({ code: 0, output: stdout }),
    (error: { code: number; stdout: string; stderr: string }) => ({
      ...{ code: error.code, output: error.stdout + error.stderr },
    }),
  );
}

async function serve(): Promise<void> {
  const response = await fetch(`${host.baseURL}/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${host.credentials?.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: pool.model, prompt: [1, 2, 3], max_tokens: 2 }),
  });
  expect(response.status).toBe(200);
  await response.text();
}

test('what was billed since the last time is delivered, once', async () => {
  const sink = join(folder, 'sink');
  mkdirSync(sink);
  const deliver = () => run('deliver.ts', '--state', join(folder, 'cursor.json'), '--folder', sink);
  const files = () => readdirSync(sink).sort();
  await serve();
  await serve();
  expect(await deliver()).toEqual({ code: 0, output: '2 rows delivered\n' });
  expect(await deliver()).toEqual({ code: 0, output: '0 rows delivered\n' });
  await serve();
  expect(await deliver()).toEqual({ code: 0, output: '1 rows delivered\n' });
  expect(files()).toEqual(['hearth-0-2.jsonl', 'hearth-2-3.jsonl']);
  const lines = readFileSync(join(sink, 'hearth-0-2.jsonl'), 'utf8').trim().split('\n');
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ output_tokens: 2 }, { output_tokens: 2 }]);
  expect(await run('deliver.ts', '--state', join(folder, 'x.json'))).toMatchObject({
    ...{ code: 1, output: expect.stringContaining('--folder, --http or --stripe') },
  });
});

test('the books agree, and a pool that can not be asked is told', async () => {
  expect(await run('reconcile.ts')).toMatchObject({ code: 0, output: expect.stringContaining('0 differences') });
  await pool.kill();
  expect(await run('reconcile.ts')).toMatchObject({ code: 1, output: expect.stringContaining("can't be asked") });
});
