// A fleet of pools over the simulated runner, under the real supervisors: what the processes of `npm start` are to it, without a GPU.
import { join } from 'node:path';
import { PoolFleet } from '../../bin/poolFleet.ts';
import type { PoolPlan } from '../../bin/poolPlans.ts';
import type { PoolsMessage } from '../../gateway/processProtocol.ts';
import { Supervisor, type SupervisorOptions } from '../../pool/supervisor.ts';
import { type PagedPoolOptions, pagedPoolOptions } from './pagedPool.ts';
import type { PoolAddress } from './signedPoolClient.ts';

export interface PagedFleetOptions {
  folder: string;
  /** Of each pool, by its name; read at each start of one. */
  pools: Readonly<Record<string, PagedPoolOptions>>;
  supervisor?: Partial<SupervisorOptions>;
  announce: (pools: PoolsMessage['pools']) => Promise<void>;
  leastLifeMs?: number;
}

export class PagedFleet {
  readonly fleet: PoolFleet;
  /** The last of each process' name: a pool's two take turns. */
  readonly supervisors = new Map<string, Supervisor>();
  readonly plans: PoolPlan[];
  readonly said: string[] = [];
  readonly failures: Error[] = [];

  private constructor({ folder, pools, supervisor: own, announce, leastLifeMs }: PagedFleetOptions) {
    const journalOf = (poolId: string) => join(folder, 'journals', poolId);
    this.plans = Object.entries(pools).map(([id, { models = [{ id: 'bytes' }] }]) => ({
      ...{ id, script: 'pool/main.ts' as const, models: models.map((model) => model.id), adapterName: '', env: {} },
      memoryBytes: id.startsWith('small') ? 1 : null,
      section: () => {
        throw new Error('the fleet of a test writes its own');
      },
    }));
    this.fleet = new PoolFleet(
      {
        supervise: ({ poolId, keyId, secretHex }, { id }, onMemory) => {
          const paged = pagedPoolOptions(folder, Buffer.from(secretHex, 'hex'), pools[id] ?? {});
          const section = (port: number | null) => ({
            ...Object(paged.section(port)),
            ...{ poolId, keys: [{ id: keyId, secretHex }], journal: { folder: journalOf(poolId) } },
          });
          const supervisor = new Supervisor({ ...paged, section, onMemory, ...own });
          this.supervisors.set(poolId, supervisor);
          return supervisor;
        },
        journalOf,
        announce,
        say: (line) => this.said.push(line),
        onFailed: (error) => this.failures.push(error),
      },
      leastLifeMs,
    );
  }

  /** Resolves when all are warm. */
  static async start(options: PagedFleetOptions): Promise<PagedFleet> {
    const paged = new PagedFleet(options);
    await paged.fleet.start(paged.plans);
    return paged;
  }

  /** The processes that serve: where, and by which key. */
  get serving(): PoolAddress[] {
    return this.fleet.entries.flatMap(({ id, url, keyId, secretHex, retired }) =>
      retired ? [] : { poolId: id, url, keyId, secret: Buffer.from(secretHex, 'hex') },
    );
  }

  /** 0: between two lives. */
  pidOf(poolId: string): number {
    return this.supervisors.get(poolId)?.pid ?? 0;
  }
}
