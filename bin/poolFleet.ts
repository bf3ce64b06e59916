// All pools of this machine: started together, replaced one after another without a gap, given up one by one. It knows processes and
// plans, and of the gateway only how to tell it who serves.
import type { PoolsMessage } from '../gateway/processProtocol.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import type { PoolPlan } from './poolPlans.ts';
import { PoolSlot } from './poolSlot.ts';
import type { PoolIdentity } from './sections.ts';

/** A bound that a pool passes sooner is too low for it: new processes would not help. */
const LEAST_LIFE_MS = 60_000;

export interface FleetOptions {
  supervise: (identity: PoolIdentity, plan: PoolPlan, onMemory: (rssBytes: number) => void) => Supervisor;
  /** The folder of a pool's journal, by its name. */
  journalOf: (poolId: string) => string;
  /** Tells the gateway of these pools, and resolves when it has them. */
  announce: (pools: PoolsMessage['pools']) => Promise<void>;
  /** A line for whoever runs it. */
  say: (line: string) => void;
  /** No pool is left. */
  onFailed: (error: Error) => void;
}

export class PoolFleet {
  readonly #options: FleetOptions;
  readonly #slots = new Map<string, PoolSlot>();
  readonly #givenUp = new Set<string>();
  /** Over their bound of memory, and about to be replaced. */
  readonly #outgrown = new Set<PoolSlot>();
  readonly #leastLifeMs: number;
  #stopped = false;
  /** The last change; the next begins when it has ended. */
  #changes: Promise<void> = Promise.resolve();

  constructor(options: FleetOptions, leastLifeMs = LEAST_LIFE_MS) {
    this.#options = options;
    this.#leastLifeMs = leastLifeMs;
  }

  /** As a gateway is told of them. */
  get entries(): PoolsMessage['pools'] {
    return [...this.#slots.values()].flatMap(({ entries }) => entries);
  }

  /** Resolves when all are warm. Throws ProcessFailed. */
  async start(plans: readonly PoolPlan[]): Promise<void> {
    const [first, ...others] = plans;
    if (first) await this.#open(first); // what it measures and compiles spares the others that
    await Promise.all(others.map((plan) => this.#open(plan)));
  }

  /** Another process in the place of each, and no request lost. Never rejects: who can't start is told of, and the old one serves on. */
  replaceAll(plans: readonly PoolPlan[]): Promise<void> {
    return this.#change('The pools could not be replaced', async () => {
      for (const plan of plans) await this.#replace(plan);
      for (const slot of [...this.#slots.values()])
        if (plans.every(({ id }) => id !== slot.id)) await this.#retire(slot);
      this.#options.say('All pools have been replaced.');
    });
  }

  /** For good: what was to be changed is left as it is. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(Array.from(this.#slots.values(), (slot) => slot.stop()));
  }

  kill(): void {
    this.#stopped = true;
    for (const slot of this.#slots.values()) slot.kill();
  }

  async #open(plan: PoolPlan): Promise<void> {
    if (this.#stopped) return;
    const { supervise, journalOf } = this.#options;
    const slot = new PoolSlot(plan.id, {
      supervise: (identity, with_) => supervise(identity, with_, (bytes) => this.#weigh(slot, identity, bytes)),
      onFailed: (error) => this.#giveUp(slot, error),
    });
    this.#slots.set(plan.id, slot);
    await slot.start(plan, journalOf);
  }

  async #replace(plan: PoolPlan): Promise<void> {
    if (this.#stopped) return;
    const slot = this.#slots.get(plan.id);
    if (slot) await slot.replace(plan, () => this.#announce());
    else {
      await this.#open(plan);
      await this.#announce();
    }
    this.#givenUp.delete(plan.id);
  }

  async #retire(slot: PoolSlot): Promise<void> {
    await slot.retire(() => this.#announce());
    this.#slots.delete(slot.id);
    await this.#announce();
  }

  /** The process that serves is replaced when it has outgrown its bound, though not before it has served for a while. */
  #weigh(slot: PoolSlot, { poolId }: PoolIdentity, rssBytes: number): void {
    const { say } = this.#options;
    const { plan, servesSinceMs } = slot;
    if (!plan?.memoryBytes || rssBytes <= plan.memoryBytes || !slot.isServing(poolId) || this.#outgrown.has(slot))
      return;
    if (Date.now() - servesSinceMs < this.#leastLifeMs) return;
    say(`The pool ${slot.id} takes ${Math.round(rssBytes / 1e6)} MB, more than it may: another takes its place.`);
    this.#outgrown.add(slot);
    void this.#change(`The pool ${slot.id} could not be replaced`, async () => {
      try {
        if (this.#slots.get(slot.id) === slot) await this.#replace(plan);
      } finally {
        this.#outgrown.delete(slot);
      }
    });
  }

  /** One pool that can't be kept alive is not the end of the others. */
  #giveUp(slot: PoolSlot, error: Error): void {
    this.#givenUp.add(slot.id);
    this.#options.say(`The pool ${slot.id} is given up: ${error.message}`);
    if (this.#givenUp.size === this.#slots.size) this.#options.onFailed(error);
  }

  #announce(): Promise<void> {
    return this.#options.announce(this.entries);
  }

  #change(failure: string, change: () => Promise<void>): Promise<void> {
    this.#changes = this.#changes.then(change).catch((error: unknown) => {
      this.#options.say(`${failure}: ${error instanceof Error ? error.message : String(error)}`);
    });
    return this.#changes;
  }
}
