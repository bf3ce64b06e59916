// The price list in SQL.
import type { AsyncSql } from '../asyncSql.ts';
import { int, type Row, text } from '../sql.ts';
import type { PriceQuery, PriceStore, PriceVersion } from './port.ts';
import type { Price } from './price.ts';

export class SqlPrices implements PriceStore {
  readonly #db: AsyncSql;

  constructor(db: AsyncSql) {
    this.#db = db;
  }

  async priceAt(model: string, atMs: number): Promise<Price | null> {
    const [row] = await this.#db.all(
      'SELECT * FROM prices WHERE model = ? AND effective_ms <= ? ORDER BY effective_ms DESC LIMIT 1',
      ...[model, atMs],
    );
    return row ? priceOf(row) : null;
  }

  /** The latest first. */
  protected async versionsOf(model: string): Promise<PriceVersion[]> {
    const rows = await this.#db.all('SELECT * FROM prices WHERE model = ? ORDER BY effective_ms DESC', model);
    return rows.map(versionOf);
  }

  async prices({ model, after, limit }: PriceQuery): Promise<{ items: PriceVersion[]; hasMore: boolean }> {
    const rows = await this.#db.all(
      `SELECT * FROM prices WHERE (?1 IS NULL OR model = ?1)
         AND (?2 = '' OR rowid > coalesce((SELECT rowid FROM prices WHERE id = ?2), 0)) ORDER BY rowid LIMIT ?3`,
      ...[model ?? null, after ?? '', limit + 1],
    );
    return { items: rows.slice(0, limit).map(versionOf), hasMore: rows.length > limit };
  }

  async addPrice(one: PriceVersion): Promise<boolean> {
    const { version, model, inputNanoUsd, cachedInputNanoUsd, outputNanoUsd, effectiveFromMs, createdAtMs } = one;
    const added = await this.#db.all(
      `INSERT INTO prices (id, model, input_price, cached_input_price, output_price, effective_ms, created_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id`,
      ...[version, model, inputNanoUsd, cachedInputNanoUsd, outputNanoUsd, effectiveFromMs, createdAtMs],
    );
    return added.length > 0;
  }
}

function priceOf(row: Row): Price {
  return {
    version: text(row, 'id'),
    inputNanoUsd: int(row, 'input_price'),
    cachedInputNanoUsd: int(row, 'cached_input_price'),
    outputNanoUsd: int(row, 'output_price'),
  };
}

function versionOf(row: Row): PriceVersion {
  return {
    ...priceOf(row),
    model: text(row, 'model'),
    effectiveFromMs: int(row, 'effective_ms'),
    createdAtMs: int(row, 'created_ms'),
  };
}
