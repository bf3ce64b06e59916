// In development the first start makes a project "dev" with a key, by the same routes as everybody else, and writes what a client needs into
// dev-credentials.json, readable by the owner alone. Later starts use the same, as long as its key still is good.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { invariant } from './invariant.ts';
import { writePrivately } from './secrets.ts';

const credentials = z.object({ baseURL: z.string(), apiKey: z.string(), adminKey: z.string(), project: z.string() });
export type DevCredentials = z.output<typeof credentials>;

const created = z.object({ id: z.string() });
const account = z.object({ api_key: z.object({ value: z.string() }) });

/** The app, wherever it runs. */
export type Ask = (
  path: string,
  init: { method: string; headers: Record<string, string>; body?: string },
) => Promise<Response>;

export interface DevOptions {
  dataDir: string;
  baseURL: string;
  adminKey: string;
  tokensPerDay: number;
}

export async function ensureDevCredentials(ask: Ask, options: DevOptions): Promise<DevCredentials> {
  const path = join(options.dataDir, 'dev-credentials.json');
  const { baseURL, adminKey } = options;
  const before = read(path);
  const known = before && (await isGood(ask, before)) ? before : await create(ask, options);
  const now = { baseURL, apiKey: known.apiKey, adminKey, project: known.project };
  writePrivately(path, now);
  return now;
}

async function create(ask: Ask, { adminKey, tokensPerDay }: DevOptions): Promise<{ apiKey: string; project: string }> {
  const admin = async (method: string, path: string, body: unknown): Promise<unknown> => {
    const headers = { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' };
    const response = await ask(`/v1/organization/projects${path}`, { method, headers, body: JSON.stringify(body) });
    invariant(response.ok, 'an administrative request of our own succeeds', { path, status: response.status });
    return response.json();
  };
  const { id } = created.parse(await admin('POST', '', { name: 'dev' }));
  await admin('PUT', `/${id}/token_quotas`, [{ window: 'day', limit_tokens: tokensPerDay }]);
  const { api_key } = account.parse(await admin('POST', `/${id}/service_accounts`, { name: 'dev' }));
  return { apiKey: api_key.value, project: id };
}

async function isGood(ask: Ask, { apiKey }: DevCredentials): Promise<boolean> {
  const response = await ask('/v1/key', { method: 'GET', headers: { authorization: `Bearer ${apiKey}` } });
  await response.body?.cancel();
  return response.ok;
}

function read(path: string): DevCredentials | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return credentials.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}
