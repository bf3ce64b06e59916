// What is killed and what is looked at: pools under their supervisors with everything that they ever journalled, and a gateway whose holds
// have to end.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { invariant } from '../../engine/invariant.ts';
import { ADMIN_KEY } from '../support/gatewayClient.ts';
import type { GatewayProcess } from '../support/gatewayProcess.ts';
import { type PagedPool, type PagedPoolOptions, startPagedPool } from '../support/pagedPool.ts';
import { JournalArchive } from './journalArchive.ts';

const SETTLED_WITHIN_MS = 60_000;

export interface OpenPool {
  pool: PagedPool;
  archive: JournalArchive;
  serves(): boolean;
  kill(): void;
  close(): Promise<void>;
}

export async function openPool(
  poolId: string,
  folder: string,
  { engine = {}, model }: { engine?: PagedPoolOptions; model: string },
): Promise<OpenPool> {
  const journal = join(folder, `${poolId}-journal`);
  let serves = false;
  const pool = await startPagedPool({
    models: [{ id: model, kvBlocks: 256 }],
    model: { stepMs: 8 },
    ...engine,
    poolId,
    section: { ...engine.section, journal: { folder: journal, segmentBytes: 2 ** 30 } },
    supervisor: {
      restart: { initialDelayMs: 50, maxDelayMs: 50, maxDeaths: 1000, windowMs: 1000 },
      onState: (state) => {
        serves = state === 'ready';
      },
      ...engine.supervisor,
    },
  });
  const archive = new JournalArchive(journal, join(folder, `${poolId}-kept`));
  return {
    pool,
    archive,
    serves: () => serves,
    kill() {
      invariant(pool.supervisor.pid, 'a pool that serves has a process');
      serves = false; // before its supervisor has noticed
      process.kill(pool.supervisor.pid, 'SIGKILL');
    },
    close() {
      archive.close();
      return pool.close();
    },
  };
}

export function namedOf({ address }: PagedPool, model: string) {
  const { poolId, url, keyId, secret } = address;
  return { id: poolId, url, keyId, secretHex: Buffer.from(secret).toString('hex'), model };
}

/** Waits until every pool is back, and has said what it lost, and nothing is held, as the gateway itself counts. */
export async function settled(gateway: GatewayProcess, pools: readonly OpenPool[]): Promise<void> {
  while (!pools.every((pool) => pool.serves())) await sleep(20);
  for (let waited = 0; waited < SETTLED_WITHIN_MS; waited += 100) {
    const text = await (await gateway.request('GET', '/metrics', { key: ADMIN_KEY })).text();
    const held = [...text.matchAll(/^hearth_gateway_holds{.*} (\d+)$/gm)].map(([, n]) => Number(n));
    if (held.length > 0 && held.every((n) => n === 0)) break;
    await sleep(100);
  }
  // Reading the usage brings it up to what is settled.
  await gateway.admin('GET', '/usage/completions?start_time=0&bucket_width=1d&limit=1');
}
