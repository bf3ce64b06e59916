// The price list with what every request asks of it kept in the isolate, as the directory is: D1 is a network away. A version that begins
// counts here up to VALID_MS later; the hold and the bill of a request are always of one version.
import { AgedCache } from '../agedCache.ts';
import type { AsyncSql } from '../asyncSql.ts';
import type { Clock } from '../clock.ts';
import type { PriceStore } from '../prices/port.ts';
import type { Price } from '../prices/price.ts';
import { SqlPrices } from '../prices/sqlPrices.ts';

const VALID_MS = 10_000;
const MAX_MODELS = 1000;

export class CachedPrices extends SqlPrices implements PriceStore {
  readonly #inForce: AgedCache<{ price: Price | null }>;

  constructor(db: AsyncSql, clock: Clock) {
    super(db);
    this.#inForce = new AgedCache(MAX_MODELS, VALID_MS, clock);
  }

  override async priceAt(model: string, atMs: number): Promise<Price | null> {
    const known = this.#inForce.get(model);
    if (known) return known.price;
    const price = await super.priceAt(model, atMs);
    this.#inForce.set(model, { price });
    return price;
  }
}
