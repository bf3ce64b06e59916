// The tiers of one process: one bound for RAM, one for the disk, shared by all its engines; each engine sees them through its own cache,
// which knows its blocks' size and its fingerprint.
import { freemem } from 'node:os';
import { DiskTier } from './diskTier.ts';
import type { BlockTransfer, KvTiers } from './port.ts';
import { RamTier } from './ramTier.ts';
import { TieredCache } from './tieredCache.ts';

/** RAM by default: so much, but at most a quarter of what is free. */
const DEFAULT_RAM_BYTES = 2 ** 30;

export interface TierOptions {
  /** Default: 1 GiB, or a quarter of the free memory where that is less. 0: none. */
  ramBytes?: number;
  /** Folder of sealed records; its parent exists. null: nothing is written to disk. */
  diskFolder: string | null;
  diskBytes: number;
  writeThrough: boolean;
  /** Left to others on the file system of the folder; default 1 GiB. */
  diskReservedBytes?: number;
}

export class TierStore {
  readonly #ram: RamTier;
  readonly #disk: DiskTier | null;
  readonly #writeThrough: boolean;
  readonly #now: () => number;

  /** `now`: milliseconds since 1970. `onNotice`: a line for the log, when writing keeps failing. */
  constructor(options: TierOptions, now: () => number, onNotice: (line: string) => void) {
    const { diskFolder, diskBytes, diskReservedBytes: reservedBytes } = options;
    this.#ram = new RamTier(options.ramBytes ?? Math.min(DEFAULT_RAM_BYTES, Math.floor(freemem() / 4)), now);
    this.#disk =
      diskFolder === null || diskBytes === 0
        ? null
        : new DiskTier({
            ...{ folder: diskFolder, capacityBytes: diskBytes, now, onNotice },
            ...(reservedBytes !== undefined && { reservedBytes }),
          });
    this.#writeThrough = options.writeThrough && this.#disk !== null;
    this.#now = now;
  }

  /** Resolves once what the folder holds is known; it is looked into from then on. Never rejects. */
  async start(): Promise<void> {
    await this.#disk?.start();
  }

  /** Finds what other processes changed; by itself once a second. */
  async look(): Promise<void> {
    await this.#disk?.look();
  }

  /** `fingerprint`: of the engine's model runner. */
  cacheFor(transfer: BlockTransfer, fingerprint: string): KvTiers {
    return new TieredCache({
      transfer,
      fingerprint,
      ram: this.#ram,
      disk: this.#disk,
      writeThrough: this.#writeThrough,
      now: this.#now,
    });
  }

  /** Ends background work; what waits to be written is, within `limitMs`. */
  async close(limitMs: number): Promise<void> {
    await this.#disk?.close(limitMs);
  }
}
