// Starts the real process of a pool whose engine is a foreign server, under the real supervisor, in a folder of its own.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Supervisor } from '../../pool/supervisor.ts';
import type { MakeName } from '../../pool/upstream/makes/makes.ts';
import { type PoolStatus, poolStatus } from '../../pool/wire/events.ts';
import { eventually } from './eventually.ts';
import { askPool, type PoolAddress } from './signedPoolClient.ts';

export interface UpstreamPoolProcess {
  address: PoolAddress;
  supervisor: Supervisor;
  /** Log lines of the process, newest last. */
  log: string[];
  status(): Promise<PoolStatus>;
  close(): Promise<void>;
}

export async function startUpstreamPool(
  make: MakeName,
  url: string,
  { env = {}, ...section }: Record<string, unknown> & { env?: Record<string, string> } = {},
): Promise<UpstreamPoolProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'upstream-'));
  const secret = randomBytes(32);
  const log: string[] = [];
  const supervisor = new Supervisor({
    ...{ name: 'pool', command: process.execPath, host: '127.0.0.1', stopLimitMs: 10_000 },
    args: [fileURLToPath(new URL('../../pool/upstream/main.ts', import.meta.url))],
    env: { PATH: process.env.PATH, ...env },
    section: (port) => ({
      ...{ port: port ?? 0, poolId: 'pool-1', make, url },
      keys: [{ id: 'key-1', secretHex: secret.toString('hex') }],
      models: [{ id: 'served', name: 'm', contextLength: 512 }],
      journal: { folder: join(folder, 'journal') },
      figuresMs: 100,
      ...section,
    }),
    onStderr: (line) => log.push(line),
  });
  const { port } = await supervisor.start();
  const address = { url: `http://127.0.0.1:${port}`, poolId: 'pool-1', keyId: 'key-1', secret };
  return {
    ...{ address, supervisor, log },
    status: async () => poolStatus.parse((await askPool(address, { method: 'GET', path: '/pool/status' })).json),
    async close() {
      await supervisor.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Waits for a state of the pool's models. */
export function untilState(pool: UpstreamPoolProcess, state: PoolStatus['state']): Promise<void> {
  return eventually(`the pool is ${state}`, async () => (await pool.status()).state === state);
}
