// The usage store in SQL, wherever the shared stores of a host stand. It counts its own sequence, since every ledger that feeds it counts
// from 1.
import type { AsyncSql } from '../asyncSql.ts';
import type { LedgerEntry } from '../ledger/port.ts';
import { entryOf, priceOf } from '../ledger/sqlRows.ts';
import type { Tokens } from '../prices/price.ts';
import { int, intOrNull, type SqlValue, text } from '../sql.ts';
import type { PricedQuery, PricedUse, UsageFilter, UsageGroup, UsageRange, UsageStore, UsageSum } from './port.ts';

/** Columns that an entry fills, each with its value there. */
const COLUMNS: readonly (readonly [string, (entry: LedgerEntry) => SqlValue])[] = [
  ['request_id', ({ requestId }) => requestId],
  ['project', ({ tenant }) => tenant],
  ['key_id', ({ keyId }) => keyId],
  ['model', ({ model }) => model],
  ['pool', ({ pool }) => pool],
  ['input', ({ inputTokens }) => inputTokens],
  ['cached_input', ({ cachedInputTokens }) => cachedInputTokens],
  ['output', ({ outputTokens }) => outputTokens],
  ['outcome', ({ outcome }) => outcome],
  ['price_version', ({ price }) => price?.version ?? null],
  ['input_price', ({ price }) => price?.inputNanoUsd ?? 0],
  ['cached_input_price', ({ price }) => price?.cachedInputNanoUsd ?? 0],
  ['output_price', ({ price }) => price?.outputNanoUsd ?? 0],
  ['cost_nano', ({ costNanoUsd }) => costNanoUsd],
  ['reserved_ms', ({ reservedAtMs }) => reservedAtMs],
  ['settled_ms', ({ settledAtMs }) => settledAtMs],
];

/** Without a sequence SQLite gives the next one: rows are only ever added. */
const COLUMN_NAMES = COLUMNS.map(([name]) => name);

/** Settled in a later UTC month than reserved. */
const LATE = `strftime('%Y-%m', reserved_ms / 1000, 'unixepoch') < strftime('%Y-%m', settled_ms / 1000, 'unixepoch')`;

const COLUMN_OF: Readonly<Record<UsageGroup, string>> = { project_id: 'project', api_key_id: 'key_id', model: 'model' };

export class SqlUsage implements UsageStore {
  readonly #db: AsyncSql;

  constructor(db: AsyncSql) {
    this.#db = db;
  }

  async append(entries: readonly LedgerEntry[]): Promise<void> {
    const rows = entries.map((entry) => COLUMNS.map(([, told]) => told(entry)));
    await this.#db.insert('usage', COLUMN_NAMES, rows);
  }

  async sums(
    filter: UsageFilter,
    originMs: number,
    widthMs: number,
    groupBy: readonly UsageGroup[],
  ): Promise<UsageSum[]> {
    const columns = groupBy.map((group) => COLUMN_OF[group]);
    const where = whereOf(filter);
    const rows = await this.#db.all(
      `SELECT (reserved_ms - CAST(? AS INTEGER)) / CAST(? AS INTEGER) AS bucket, sum(input) AS input, sum(cached_input) AS cached_input,
              sum(output) AS output, count(*) AS requests ${columns.map((column) => `, ${column}`).join('')}
       FROM usage WHERE ${where.sql} AND outcome <> 'refused'
       GROUP BY ${['bucket', ...columns].join(', ')} ORDER BY ${['bucket', ...columns].join(', ')}`,
      ...[originMs, widthMs, ...where.values],
    );
    return rows.map((row) => ({
      bucketMs: originMs + int(row, 'bucket') * widthMs,
      group: {
        project_id: groupBy.includes('project_id') ? text(row, 'project') : null,
        api_key_id: groupBy.includes('api_key_id') ? text(row, 'key_id') : null,
        model: groupBy.includes('model') ? text(row, 'model') : null,
      },
      inputTokens: int(row, 'input'),
      cachedInputTokens: int(row, 'cached_input'),
      outputTokens: int(row, 'output'),
      requests: int(row, 'requests'),
    }));
  }

  async priced({ filter, range, originMs, widthMs, byKey, behind, limit }: PricedQuery): Promise<PricedUse[]> {
    const where = whereOf(filter);
    const last = behind && [
      (behind.bucketMs - originMs) / widthMs,
      ...[behind.project, behind.keyId, behind.model, behind.price?.version ?? '', behind.late ? 1 : 0],
    ];
    const rows = await this.#db.all(
      `SELECT * FROM (
         SELECT (reserved_ms - CAST(? AS INTEGER)) / CAST(? AS INTEGER) AS bucket, project, ${byKey ? 'key_id' : "''"} AS key,
                model, coalesce(price_version, '') AS version, ${LATE} AS late, max(price_version) AS price_version,
                max(input_price) AS input_price, max(cached_input_price) AS cached_input_price, max(output_price) AS output_price,
                sum(input) AS input, sum(cached_input) AS cached_input, sum(output) AS output
         FROM usage WHERE ${where.sql} AND sequence > ? AND sequence <= ?
         GROUP BY bucket, project, key, model, version, late)
       WHERE ${last ? '(bucket, project, key, model, version, late) > (?, ?, ?, ?, ?, ?) AND' : ''} input + output > 0
       ORDER BY bucket, project, key, model, version, late LIMIT ?`,
      ...[originMs, widthMs, ...where.values, range.after, range.upTo, ...(last ?? []), limit],
    );
    return rows.map((row) => ({
      bucketMs: originMs + int(row, 'bucket') * widthMs,
      project: text(row, 'project'),
      keyId: text(row, 'key'),
      model: text(row, 'model'),
      price: priceOf(row),
      late: int(row, 'late') === 1,
      inputTokens: int(row, 'input'),
      cachedInputTokens: int(row, 'cached_input'),
      outputTokens: int(row, 'output'),
    }));
  }

  async firstUse(filter: UsageFilter, range: UsageRange): Promise<number | null> {
    const where = whereOf(filter);
    const [row] = await this.#db.all(
      `SELECT min(reserved_ms) AS first FROM usage WHERE ${where.sql} AND sequence > ? AND sequence <= ?`,
      ...[...where.values, range.after, range.upTo],
    );
    return row ? intOrNull(row, 'first') : null;
  }

  async page(filter: UsageFilter, after: number, upTo: number, limit: number): Promise<LedgerEntry[]> {
    const where = whereOf(filter);
    const rows = await this.#db.all(
      `SELECT *, project AS tenant FROM usage
       WHERE ${where.sql} AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
      ...[...where.values, after, upTo, limit],
    );
    return rows.map(entryOf);
  }

  async entriesOf(requestIds: readonly string[]): Promise<LedgerEntry[]> {
    const rows = await this.#db.all(
      'SELECT *, project AS tenant FROM usage WHERE request_id IN (SELECT value FROM json_each(?)) ORDER BY sequence',
      JSON.stringify(requestIds),
    );
    return rows.map(entryOf);
  }

  async estimated(): Promise<Tokens & { requests: number }> {
    const [row] = await this.#db.all(
      `SELECT count(*) AS requests, coalesce(sum(input), 0) AS input, coalesce(sum(cached_input), 0) AS cached_input,
              coalesce(sum(output), 0) AS output FROM usage WHERE outcome = 'estimated'`,
    );
    return {
      requests: int(row, 'requests'),
      inputTokens: int(row, 'input'),
      cachedInputTokens: int(row, 'cached_input'),
      outputTokens: int(row, 'output'),
    };
  }

  async watermark(): Promise<number> {
    const [row] = await this.#db.all('SELECT coalesce(max(sequence), 0) AS sequence FROM usage');
    return int(row, 'sequence');
  }
}

function whereOf(filter: UsageFilter): { sql: string; values: SqlValue[] } {
  const clauses = ['reserved_ms >= ?', 'reserved_ms < ?'];
  const values: SqlValue[] = [filter.startMs, filter.endMs];
  for (const [column, wanted] of [
    ['project', filter.projects],
    ['key_id', filter.keys],
    ['model', filter.models],
  ] as const) {
    if (!wanted) continue;
    clauses.push(`${column} IN (SELECT value FROM json_each(?))`);
    values.push(JSON.stringify(wanted));
  }
  return { sql: clauses.join(' AND '), values };
}
