// Loads from the tiers that are under way: started when the scheduler says so, collected between steps. The engine never waits for one
// while it has anything to compute, and what comes too late for its sequence is dropped here.
import type { BlockLoad, Sequence } from './sequence.ts';
import type { KvTiers } from './tiers/port.ts';

export interface FinishedLoad {
  sequence: Sequence;
  load: BlockLoad;
  /** Leading blocks that were good. */
  blocks: readonly Uint8Array[];
}

export class TierLoads {
  readonly #tiers: Pick<KvTiers, 'load'>;
  readonly #onFinished: () => void;
  #finished: FinishedLoad[] = [];

  constructor(tiers: Pick<KvTiers, 'load'>, onFinished: () => void) {
    this.#tiers = tiers;
    this.#onFinished = onFinished;
  }

  /** The sequence's load begins. Ended by its `abort` when the sequence ends, or is preempted. */
  start(sequence: Sequence, load: BlockLoad): void {
    const finish = (blocks: readonly Uint8Array[]): void => {
      this.#finished.push({ sequence, load, blocks: blocks.slice(0, load.count) });
      this.#onFinished();
    };
    // Tiers promise not to reject; if one does, its request must not pay for it.
    this.#tiers.load(load.path, load.from, load.count, load.abort.signal).then(
      ({ blocks }) => finish(blocks),
      () => finish([]),
    );
  }

  /** Loads that ended since the last call and are still waited for. */
  take(): FinishedLoad[] {
    return this.#finished.splice(0).filter(({ sequence, load }) => sequence.load === load);
  }
}
