// The real tiers behind a bad day: loads come late, in part, or not at all, and a copy of what they gave is kept from nobody. What an
// engine answers must not depend on any of it.
import type {
  BlockTransfer,
  CachedPath,
  KvTiers,
  LoadedBlocks,
  TierHit,
  TiersStatus,
} from '../../engine/tiers/port.ts';
import { RamTier } from '../../engine/tiers/ramTier.ts';
import { TieredCache } from '../../engine/tiers/tieredCache.ts';

export interface Unreliability {
  /** Turns of the event loop before a load is answered. */
  delay: () => number;
  /** How many of `blocks` good blocks a load gives. */
  gives: (blocks: number) => number;
  maxLoadBlocks: number;
  /** What a block is said to take; the real tiers' estimate by default. */
  msPerBlock?: number;
}

export class UnreliableTiers implements KvTiers {
  readonly maxLoadBlocks: number;
  readonly #real: TieredCache;
  readonly #mood: Unreliability;
  loads = 0;
  loadedBlocks = 0;
  aborted = 0;

  constructor(transfer: BlockTransfer, ramBytes: number, mood: Unreliability) {
    this.#mood = mood;
    this.maxLoadBlocks = mood.maxLoadBlocks;
    this.#real = new TieredCache({
      transfer,
      fingerprint: 'paged-runner-1',
      ram: new RamTier(ramBytes, () => performance.now()),
      disk: null,
      writeThrough: true,
      now: () => performance.now(),
    });
  }

  stored(...told: Parameters<KvTiers['stored']>): void {
    this.#real.stored(...told);
  }

  removed(...told: Parameters<KvTiers['removed']>): void {
    this.#real.removed(...told);
  }

  probe(path: CachedPath, from: number, maxTokens: number): TierHit {
    const { blocks, loadMs } = this.#real.probe(path, from, maxTokens);
    const { msPerBlock } = this.#mood;
    return { blocks, loadMs: msPerBlock === undefined ? loadMs : blocks * msPerBlock };
  }

  async load(path: CachedPath, from: number, count: number, signal: AbortSignal): Promise<LoadedBlocks> {
    this.loads += 1;
    const loaded = await this.#real.load(path, from, count, signal);
    for (let turns = this.#mood.delay(); turns > 0 && !signal.aborted; turns--)
      await new Promise((resolve) => setImmediate(resolve));
    if (signal.aborted) this.aborted += 1;
    const blocks = loaded.blocks.slice(0, this.#mood.gives(loaded.blocks.length));
    this.loadedBlocks += blocks.length;
    return { ...loaded, blocks };
  }

  flush(): Promise<void> {
    return this.#real.flush();
  }

  destroyNamespace(namespace: string): void {
    this.#real.destroyNamespace(namespace);
  }

  status(): TiersStatus {
    return this.#real.status();
  }
}
