// The price list with each model's versions kept in memory, for the one process through which every version comes: what a request is told is
// exact to the millisecond, without a query.
import { LRUCache } from 'lru-cache';
import type { PriceStore, PriceVersion } from './port.ts';
import type { Price } from './price.ts';
import { SqlPrices } from './sqlPrices.ts';

const MAX_MODELS = 1000;

export class RememberedPrices extends SqlPrices implements PriceStore {
  /** The latest first. */
  readonly #versions = new LRUCache<string, readonly PriceVersion[]>({ max: MAX_MODELS });

  override async priceAt(model: string, atMs: number): Promise<Price | null> {
    let versions = this.#versions.get(model);
    if (!versions) {
      versions = await this.versionsOf(model);
      this.#versions.set(model, versions);
    }
    return versions.find(({ effectiveFromMs }) => effectiveFromMs <= atMs) ?? null;
  }

  override async addPrice(version: PriceVersion): Promise<boolean> {
    const added = await super.addPrice(version);
    this.#versions.delete(version.model);
    return added;
  }
}
