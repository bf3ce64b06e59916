// In development the first start makes a project "dev" with a key, and writes what a client needs into dev-credentials.json, readable
// by the owner alone. Later starts use the same, as long as its key still is good.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { keyHashes, projectOfKey } from './keys/apiKey.ts';
import type { GatewayPorts } from './ports.ts';
import { createServiceAccount } from './routes/apiKeys.ts';
import { createProject } from './routes/projects.ts';
import { writePrivately } from './secrets.ts';

const credentials = z.object({ baseURL: z.string(), apiKey: z.string(), adminKey: z.string(), project: z.string() });
export type DevCredentials = z.output<typeof credentials>;

export interface DevOptions {
  dataDir: string;
  baseURL: string;
  tokensPerDay: number;
}

export async function ensureDevCredentials(ports: GatewayPorts, options: DevOptions): Promise<DevCredentials> {
  const path = join(options.dataDir, 'dev-credentials.json');
  const { adminKey } = ports.keyring;
  const before = read(path);
  const known = before && (await isGood(ports, before)) ? before : await create(ports, options.tokensPerDay);
  const now = { baseURL: options.baseURL, apiKey: known.apiKey, adminKey, project: known.project };
  writePrivately(path, now);
  return now;
}

async function create(ports: GatewayPorts, tokensPerDay: number): Promise<{ apiKey: string; project: string }> {
  const project = await createProject(ports, 'dev');
  const daily = { window: 'day', limitTokens: tokensPerDay, models: null, timeZone: 'UTC' } as const;
  await ports.ledger.putQuotas(project.id, [daily], ports.clock.now());
  const { value } = await createServiceAccount(ports, project.id, 'dev', null);
  return { apiKey: value, project: project.id };
}

async function isGood({ ledger, keyring, clock }: GatewayPorts, { apiKey }: DevCredentials): Promise<boolean> {
  const tenant = projectOfKey(apiKey, keyring.tagSecret);
  if (!tenant) return false;
  return (
    (await ledger.keyStatus({ tenant, hashes: keyHashes(apiKey, keyring.peppers), nowMs: clock.now() })).kind ===
    'known'
  );
}

function read(path: string): DevCredentials | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return credentials.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}
