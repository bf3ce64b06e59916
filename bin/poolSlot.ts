// One configured pool of this machine: the process that serves it and, while another takes its place, both. Each process has a name, a key
// and a journal of its own; two names take turns, so that what one left in its journal is told by the next but one at the latest.
//
//   start ─▶ serving ─── replace: the next one is warm ─▶ announced, the old one retired ─▶ it ends what it has ─▶ gone
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PoolsMessage } from '../gateway/processProtocol.ts';
import type { ProcessFailed, Supervisor } from '../pool/supervisor.ts';
import type { PoolPlan } from './poolPlans.ts';
import { POOL_HOST, type PoolIdentity } from './sections.ts';

/** Requests that chose a pool before its successor was announced have reached it by then. */
const RETIRE_GRACE_MS = 3000;

export interface SlotOptions {
  supervise: (identity: PoolIdentity, plan: PoolPlan) => Supervisor;
  /** The process that serves died too often, and is not started again. */
  onFailed: (error: ProcessFailed) => void;
}

interface Life {
  identity: PoolIdentity;
  plan: PoolPlan;
  supervisor: Supervisor;
  sinceMs: number;
}

export class PoolSlot {
  readonly id: string;
  readonly #options: SlotOptions;
  /** Starting, serving and retired. */
  readonly #lives = new Set<Life>();
  #serving: Life | null = null;
  #retired: Life | null = null;

  constructor(id: string, options: SlotOptions) {
    this.id = id;
    this.#options = options;
  }

  get plan(): PoolPlan | null {
    return this.#serving?.plan ?? null;
  }

  get servesSinceMs(): number {
    return this.#serving?.sinceMs ?? 0;
  }

  isServing(poolId: string): boolean {
    return this.#serving?.identity.poolId === poolId;
  }

  /** As a gateway is told of them. */
  get entries(): PoolsMessage['pools'] {
    return [this.#serving, this.#retired].flatMap((life) => {
      const port = life?.supervisor.port;
      if (!life || !port) return [];
      const { poolId, keyId, secretHex } = life.identity;
      const url = `http://${POOL_HOST}:${port}`;
      return { id: poolId, url, keyId, secretHex, models: [...life.plan.models], retired: life === this.#retired };
    });
  }

  /** `journalOf`: the folder of a name's journal. Resolves when it is warm. Throws ProcessFailed. */
  async start(plan: PoolPlan, journalOf: (poolId: string) => string): Promise<void> {
    const names = namesOf(this.id).sort((a, b) => lastUsed(journalOf(b)) - lastUsed(journalOf(a)));
    this.#serving = await this.#launch(plan, names[0] ?? this.id);
  }

  /**
   * Another process in the place of the one that serves. `announce` tells the gateway of `entries`, and resolves when it knows. Throws
   * ProcessFailed when the new one can't start: the old one serves on.
   */
  async replace(plan: PoolPlan, announce: () => Promise<void>): Promise<void> {
    const old = this.#serving;
    const name = namesOf(this.id).find((one) => one !== old?.identity.poolId) ?? this.id;
    this.#serving = await this.#launch(plan, name);
    this.#retired = old;
    await announce();
    if (!old) return;
    await sleep(RETIRE_GRACE_MS);
    await old.supervisor.stop();
    this.#lives.delete(old);
    this.#retired = null;
    await announce();
  }

  /** Takes no place any more: the gateway is told, then it ends what it has. */
  async retire(announce: () => Promise<void>): Promise<void> {
    this.#retired = this.#serving;
    this.#serving = null;
    await announce();
    await sleep(RETIRE_GRACE_MS);
    await this.stop();
    this.#retired = null;
  }

  async stop(): Promise<void> {
    await Promise.all(Array.from(this.#lives, ({ supervisor }) => supervisor.stop()));
  }

  kill(): void {
    for (const { supervisor } of this.#lives) supervisor.kill();
  }

  async #launch(plan: PoolPlan, poolId: string): Promise<Life> {
    const identity = { poolId, keyId: 'start', secretHex: randomBytes(32).toString('hex') };
    const life = { identity, plan, supervisor: this.#options.supervise(identity, plan), sinceMs: Date.now() };
    this.#lives.add(life);
    try {
      await life.supervisor.start();
    } catch (error) {
      this.#lives.delete(life);
      throw error;
    }
    life.supervisor.failed.then((error) => {
      if (life === this.#serving) this.#options.onFailed(error);
    });
    return life;
  }
}

/** The names that take turns. No configured pool can have the second. */
function namesOf(id: string): string[] {
  return [id, `${id}~`];
}

/** A start of a pool locks its journal's folder, which changes it. */
function lastUsed(folder: string): number {
  return statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
