// Starts a real pool process over the simulated runner, under the real supervisor, in a folder of its own.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Supervisor, type SupervisorOptions } from '../../pool/supervisor.ts';
import type { PagedModelFile } from './pagedEngineWorker.ts';
import type { PoolAddress } from './signedPoolClient.ts';

export interface PagedPool {
  address: PoolAddress;
  supervisor: Supervisor;
  /** Log lines of the process, newest last. */
  log: string[];
  folder: string;
  close(): Promise<void>;
}

export interface PagedPoolOptions {
  /** Default: pool-1. */
  poolId?: string;
  /** The file that all models share which have none of their own. */
  model?: PagedModelFile;
  /** Default: one, `bytes`, of 256 blocks. */
  models?: readonly ({ id: string; file?: PagedModelFile } & Record<string, unknown>)[];
  section?: Record<string, unknown>;
  supervisor?: Partial<SupervisorOptions>;
}

export const PAGED_POOL_MAIN = fileURLToPath(new URL('./pagedPoolMain.ts', import.meta.url));

export function pagedPoolOptions(folder: string, secret: Uint8Array, options: PagedPoolOptions): SupervisorOptions {
  const write = (name: string, file: PagedModelFile) => {
    const path = join(folder, `${name}.json`);
    writeFileSync(path, JSON.stringify(file));
    return path;
  };
  const shared = write('model', options.model ?? {});
  const models = (options.models ?? [{ id: 'bytes', kvBlocks: 256 }]).map(({ file, ...model }, i) => ({
    path: file ? write(`model-${i}`, file) : shared,
    ...model,
  }));
  return {
    name: 'pool',
    command: process.execPath,
    args: [PAGED_POOL_MAIN],
    env: { PATH: process.env.PATH },
    host: '127.0.0.1',
    stopLimitMs: 10_000,
    section: (port) => ({
      port: port ?? 0,
      poolId: options.poolId ?? 'pool-1',
      keys: [{ id: 'key-1', secretHex: Buffer.from(secret).toString('hex') }],
      models,
      journal: { folder: join(folder, 'journal') },
      ...options.section,
    }),
    ...options.supervisor,
  };
}

export async function startPagedPool(options: PagedPoolOptions = {}): Promise<PagedPool> {
  const folder = mkdtempSync(join(tmpdir(), 'pool-'));
  const secret = randomBytes(32);
  const log: string[] = [];
  const supervisor = new Supervisor({
    ...pagedPoolOptions(folder, secret, options),
    onStderr: (line) => log.push(line),
  });
  const { port } = await supervisor.start();
  return {
    address: {
      url: `http://${options.supervisor?.host ?? '127.0.0.1'}:${port}`,
      poolId: options.poolId ?? 'pool-1',
      keyId: 'key-1',
      secret,
    },
    supervisor,
    log,
    folder,
    close: async () => {
      await supervisor.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
