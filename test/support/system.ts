// The running system of the end-to-end tests: what `npm start` runs, with a data folder and a port of its own; nothing in it is replaced.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { freePort } from './freePort.ts';

export interface Credentials {
  baseURL: string;
  apiKey: string;
  adminKey: string;
  project: string;
}

export interface System extends Credentials {
  /** The official client with the development key; no retries, so that every refusal is seen. */
  client: OpenAI;
  /** An admin call; throws with the body unless the answer is 2xx. */
  admin<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** A new project with its own key, and quotas. */
  tenant(name: string, quotas?: object[]): Promise<{ id: string; key: string; keyId: string; client: OpenAI }>;
  /** Process ids below `npm start` whose command line has `part` in it. */
  pids(part: string): number[];
  output(): string;
  stop(): Promise<number | null>;
}

const START_TIMEOUT_MS = 300_000;

export async function startSystem(config: object = {}): Promise<System> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'hearth-e2e-'));
  const entry = fileURLToPath(new URL('../../bin/start.ts', import.meta.url));
  const configPath = join(folder, 'hearth.config.json');
  writeFileSync(configPath, JSON.stringify(config));
  let text = '';
  const child = spawn(process.execPath, [entry], {
    env: { ...process.env, PORT: String(port), HEARTH_DATA_DIR: join(folder, 'data'), HEARTH_CONFIG: configPath },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part: string) => {
      text = (text + part).slice(-200_000);
    });
  await untilReady(child, port, () => text);
  const credentials: Credentials = JSON.parse(readFileSync(join(folder, 'data', 'dev-credentials.json'), 'utf8'));
  const { baseURL, adminKey } = credentials;
  const clientOf = (apiKey: string): OpenAI => new OpenAI({ baseURL, apiKey, maxRetries: 0 });

  async function admin<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${baseURL}${path}`, {
      method,
      headers: { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    return JSON.parse(answer);
  }

  return {
    ...credentials,
    client: clientOf(credentials.apiKey),
    admin,
    async tenant(name, quotas) {
      const { id } = await admin<{ id: string }>('POST', '/organization/projects', { name });
      if (quotas) await admin('PUT', `/organization/projects/${id}/token_quotas`, quotas);
      const account = await admin<{ api_key: { id: string; value: string } }>(
        'POST',
        `/organization/projects/${id}/service_accounts`,
        { name: 'test' },
      );
      return { id, key: account.api_key.value, keyId: account.api_key.id, client: clientOf(account.api_key.value) };
    },
    pids: (part) => descendants(child.pid ?? 0).filter((pid) => commandLine(pid).includes(part)),
    output: () => text,
    async stop() {
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const code = child.exitCode ?? (await ended);
      rmSync(folder, { recursive: true, force: true });
      return code;
    },
  };
}

async function untilReady(child: ChildProcess, port: number, output: () => string): Promise<void> {
  const until = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the system ended with ${child.exitCode}:\n${output().slice(-4000)}`);
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
    if (ready) return;
    if (Date.now() > until) throw new Error(`the system was not ready in time:\n${output().slice(-4000)}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** Every process below `root`, from /proc. */
export function descendants(root: number): number[] {
  const parentOf = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      parentOf.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // Ended while we looked.
    }
  }
  const below = (pid: number): boolean => {
    const parent = parentOf.get(pid);
    return parent !== undefined && (parent === root || below(parent));
  };
  return [...parentOf.keys()].filter(below);
}
