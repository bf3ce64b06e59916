// The price list's contract: versions per model, each in force from its time until the next one's. A version that is in force, or was,
// can't be changed or taken away: bills name it.
import type { Price } from './price.ts';

export interface PriceVersion extends Price {
  model: string;
  effectiveFromMs: number;
  createdAtMs: number;
}

export interface PriceQuery {
  model?: string;
  /** Id of a version; the list goes on behind it. */
  after?: string;
  limit: number;
}

export interface PriceStore {
  /** The version in force at this moment; null: the model costs nothing. Asked for every request. */
  priceAt(model: string, atMs: number): Promise<Price | null>;
  /** In the order of their making. */
  prices(query: PriceQuery): Promise<{ items: PriceVersion[]; hasMore: boolean }>;
  /** False when the model has a version from that very moment. */
  addPrice(version: PriceVersion): Promise<boolean>;
}
