// The pools and what is known of each: its last status, and whether that is fresh. Choosing among them is a pure decision; asking
// them again and again, with backoff for those that don't answer, is a loop with a stop.
import type { PoolStatus, ServedModel } from '../../pool/wire/events.ts';
import { distanceToWarm } from '../../pool/wire/states.ts';
import type { Clock } from '../clock.ts';
import { Leases } from '../leases.ts';
import type { PoolClient } from './poolClient.ts';

const POLL_INTERVAL_MS = 1000;
const MAX_BACKOFF_MS = 10_000;
/** A status older than this says nothing about now. Longer than an interval and a slow answer together. */
const STATUS_VALID_MS = 8000;
/** So many more requests a warm pool may have before one that is on its way to be warm is as good; twice as many before one is woken. */
const WAKE_LOAD = 8;

export interface PoolState {
  client: PoolClient;
  /** Models by configuration: what the pool serves once it is up. */
  declaredModels: readonly string[];
  status: PoolStatus | null;
  statusAtMs: number;
  failures: number;
  /** Requests that this gateway has at the pool. */
  inFlight: Leases;
}

export type Choice =
  | { kind: 'pool'; pool: PoolState; model: ServedModel }
  | { kind: 'none_ready' }
  | { kind: 'unknown_model' };

export function isReady(pool: PoolState, nowMs: number): boolean {
  const { failures, status, statusAtMs } = pool;
  return (
    failures === 0 && status !== null && distanceToWarm(status.state) !== null && nowMs - statusAtMs <= STATUS_VALID_MS
  );
}

/** The least loaded ready pool that serves the model; one that would have to wake for it counts as loaded. A model that nobody can have heard of yet counts as not ready. */
export function choosePool(pools: readonly PoolState[], modelId: string, nowMs: number): Choice {
  let best: { pool: PoolState; model: ServedModel; load: number } | undefined;
  let known = false;
  for (const pool of pools) {
    const model = pool.status?.models.find((one) => one.id === modelId);
    known ||= model !== undefined || pool.declaredModels.includes(modelId);
    known ||= pool.status === null && pool.declaredModels.length === 0;
    if (!model || !pool.status || !isReady(pool, nowMs)) continue;
    const distance = distanceToWarm(model.state);
    if (distance === null) continue;
    const busy = Math.max(pool.inFlight.count(nowMs), pool.status.running + pool.status.waiting);
    const load = busy + distance * WAKE_LOAD;
    if (!best || load < best.load) best = { pool, model, load };
  }
  if (best) return { kind: 'pool', pool: best.pool, model: best.model };
  return { kind: known ? 'none_ready' : 'unknown_model' };
}

export class PoolRegistry {
  readonly pools: readonly PoolState[];
  readonly #clock: Clock;
  readonly #onStatus: (pool: PoolState) => void;

  /** `onStatus`: a pool has told its status; the registry waits for nothing that follows from it. */
  constructor(
    pools: readonly { client: PoolClient; models: readonly string[] }[],
    clock: Clock,
    onStatus: (pool: PoolState) => void = () => {},
  ) {
    this.#clock = clock;
    this.#onStatus = onStatus;
    this.pools = pools.map(({ client, models }) => ({
      client,
      declaredModels: models,
      status: null,
      statusAtMs: Number.NEGATIVE_INFINITY,
      failures: 0,
      inFlight: new Leases(),
    }));
  }

  byId(id: string): PoolState | undefined {
    return this.pools.find((pool) => pool.client.target.id === id);
  }

  choose(modelId: string): Choice {
    return choosePool(this.pools, modelId, this.#clock.now());
  }

  /** Models as last told, by id; the first pool's word counts. */
  models(): ServedModel[] {
    const byId = new Map<string, ServedModel>();
    for (const model of this.pools.flatMap((pool) => pool.status?.models ?? []))
      if (!byId.has(model.id)) byId.set(model.id, model);
    return [...byId.values()];
  }

  /** Every model that is declared or was ever told of has a ready pool, and there is one at all. */
  ready(): boolean {
    const ids = new Set(
      this.pools.flatMap((pool) => [...pool.declaredModels, ...(pool.status?.models ?? []).map((m) => m.id)]),
    );
    return ids.size > 0 && [...ids].every((id) => this.choose(id).kind === 'pool');
  }

  /** A pool whose connection failed is not chosen again before it has answered a status. */
  reportFailure(pool: PoolState): void {
    pool.failures += 1;
  }

  async refresh(pool: PoolState): Promise<void> {
    try {
      pool.status = await pool.client.status();
      pool.statusAtMs = this.#clock.now();
      pool.failures = 0;
    } catch {
      pool.failures += 1;
      return;
    }
    this.#onStatus(pool);
  }

  /** Asks every pool until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.pools.map(async (pool) => {
        while (!signal.aborted) {
          await this.refresh(pool);
          const waitMs = Math.min(MAX_BACKOFF_MS, POLL_INTERVAL_MS * 2 ** Math.min(pool.failures, 10));
          await this.#clock.sleep(pool.failures === 0 ? POLL_INTERVAL_MS : waitMs / 2, signal);
        }
      }),
    );
  }
}
