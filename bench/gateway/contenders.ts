// The processes of the gateway bench: the upstream, Hearth's gateway with everything on (authentication, reservation, durable settlement)
// in two strengths of durability, Portkey's, which has none of that, and a hop that does nothing.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { invariant } from '../../engine/invariant.ts';
import { GATEWAY_NODE_FLAGS } from '../../gateway/processProtocol.ts';
import type { Synchronous } from '../../gateway/sqlite.ts';
import { freePort } from '../../test/support/freePort.ts';
import type { Target } from './load.ts';

export const MODEL = 'bench';
const POOL = { poolId: 'pool-bench', keyId: 'key-bench', secretHex: '5a'.repeat(32) };
const START_TIMEOUT_MS = 60_000;

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export interface Contender {
  name: string;
  pid: number;
  target: Target;
  stop(): Promise<void>;
}

/** How an upstream answers: so many output tokens at once, or the rest of them after this. */
export interface Answering {
  tokens: number;
  holdOpenMs: number;
}

export interface Upstream {
  pid: number;
  poolPort: number;
  openaiPort: number;
  stop(): Promise<void>;
}

async function end(child: ChildProcess): Promise<void> {
  const exited = new Promise((resolve) => child.once('exit', resolve));
  if (child.exitCode !== null) return;
  child.kill('SIGTERM');
  await Promise.race([exited, sleep(5000, undefined, { ref: false }).then(() => child.kill('SIGKILL'))]);
}

function firstLine(child: ChildProcess): Promise<string> {
  invariant(child.stdout, 'its output is read');
  const lines = createInterface({ input: child.stdout });
  return new Promise((resolve, reject) => {
    lines.once('line', resolve);
    child.once('exit', (code) => reject(new Error(`a process of the bench ended with ${code} before it was ready`)));
  });
}

export async function startUpstream(answering: Answering): Promise<Upstream> {
  const child = spawn(
    process.execPath,
    [here('./instantPool.ts'), JSON.stringify({ ...POOL, ...answering, model: MODEL })],
    { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] },
  );
  const { poolPort, openaiPort } = JSON.parse(await firstLine(child));
  return { pid: child.pid ?? 0, poolPort, openaiPort, stop: () => end(child) };
}

/**
 * With a pool of its own, as each gateway has: it collects all receipts that a pool keeps. `prepare`: what the data folder is given before
 * the gateway opens it.
 */
export async function startHearth(
  answering: Answering,
  synchronous: Synchronous,
  prepare?: (dataDir: string) => Promise<void>,
): Promise<Contender & { dataDir: string }> {
  const upstream = await startUpstream(answering);
  const dataDir = mkdtempSync(join(tmpdir(), 'hearth-bench-gateway-'));
  await prepare?.(dataDir);
  const child = spawn(process.execPath, [...GATEWAY_NODE_FLAGS, here('../../gateway/node.ts')], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const { poolId: id, keyId, secretHex } = POOL;
  const pools = [{ id, keyId, secretHex, url: `http://127.0.0.1:${upstream.poolPort}`, models: [MODEL] }];
  const section = {
    ...{ mode: 'development', port: 0, dataDir, pools, synchronous },
    defaults: { devTokensPerDay: 1_000_000_000 },
    limits: { maxConcurrentRequests: 4096 },
  };
  invariant(child.stdin, 'its section is written');
  child.stdin.write(`${JSON.stringify(section)}\n`);
  const { port } = JSON.parse(await firstLine(child));
  const { apiKey } = JSON.parse(readFileSync(join(dataDir, 'dev-credentials.json'), 'utf8'));
  const name = synchronous === 'FULL' ? 'hearth, power-loss-safe' : 'hearth';
  const stop = async () => {
    await end(child);
    await upstream.stop();
    rmSync(dataDir, { recursive: true, force: true });
  };
  await untilReady(port);
  const target = { port, path: '/v1/chat/completions', headers: { authorization: `Bearer ${apiKey}` } };
  return { name, pid: child.pid ?? 0, target, dataDir, stop };
}

function installPortkey(folder: string): void {
  if (existsSync(join(folder, 'node_modules/@portkey-ai/gateway'))) return;
  console.log('installing @portkey-ai/gateway (25 MB, for this bench alone) …');
  const npm = spawnSync('npm', ['ci', '--ignore-scripts'], { cwd: folder, stdio: 'inherit' });
  if (npm.status !== 0) throw new Error('npm ci failed in bench/peers/portkey; --no-peers measures Hearth alone');
}

export async function startPortkey(upstream: Upstream): Promise<Contender> {
  const folder = here('../peers/portkey');
  installPortkey(folder);
  const port = await freePort();
  const child = spawn(
    process.execPath,
    [join(folder, 'node_modules/@portkey-ai/gateway/build/start-server.js'), `--port=${port}`, '--headless'],
    { stdio: 'ignore', env: { ...process.env, NODE_ENV: 'production', TRUSTED_CUSTOM_HOSTS: '127.0.0.1,localhost' } },
  );
  await until(async () => (await fetch(`http://127.0.0.1:${port}/`)).status > 0, `gateway on port ${port}`);
  const target = {
    ...{ port, path: '/v1/chat/completions' },
    headers: {
      'x-portkey-provider': 'openai',
      'x-portkey-custom-host': `http://127.0.0.1:${upstream.openaiPort}/v1`,
      authorization: 'Bearer sk-none',
    },
  };
  return { name: 'portkey', pid: child.pid ?? 0, target, stop: () => end(child) };
}

/** What the same server and client take that do nothing between them. */
export async function startBareHop({ openaiPort }: Upstream): Promise<Contender> {
  const child = spawn(process.execPath, [here('./bareHop.ts'), JSON.stringify({ openaiPort })], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const { port } = JSON.parse(await firstLine(child));
  const target = { port, path: '/v1/chat/completions', headers: {} };
  return { name: 'bare hop', pid: child.pid ?? 0, target, stop: () => end(child) };
}

export function direct({ openaiPort, pid }: Upstream): Contender {
  const target = { port: openaiPort, path: '/v1/chat/completions', headers: {} };
  return { name: 'no gateway', pid, target, stop: async () => {} };
}

/** Its pool is known and answers. */
export async function untilReady(port: number): Promise<void> {
  await until(async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok, `gateway with a pool on port ${port}`);
}

async function until(answers: () => Promise<boolean>, what: string): Promise<void> {
  for (const began = performance.now(); performance.now() - began < START_TIMEOUT_MS; await sleep(50))
    if (await answers().catch(() => false)) return;
  throw new Error(`there is no ${what} after ${START_TIMEOUT_MS} ms`);
}
