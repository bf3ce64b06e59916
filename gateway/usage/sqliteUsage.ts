// The usage store on node:sqlite.
import type { LedgerEntry } from '../ledger/port.ts';
import { entryOf } from '../ledger/sqlLedger.ts';
import { int, type Sql, type SqlValue, text } from '../sql.ts';
import type { UsageFilter, UsageGroup, UsageStore, UsageSum } from './port.ts';

const COLUMN_OF: Readonly<Record<UsageGroup, string>> = { project_id: 'project', api_key_id: 'key_id', model: 'model' };

export class SqliteUsage implements UsageStore {
  readonly #db: Sql;

  constructor(db: Sql) {
    this.#db = db;
  }

  async append(entries: readonly LedgerEntry[]): Promise<void> {
    const insert = this.#db.prepare(
      `INSERT INTO usage
       (sequence, request_id, project, key_id, model, pool, input, cached_input, output, outcome, reserved_ms, settled_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
    );
    this.#db.transaction(() => {
      for (const entry of entries)
        insert.run(
          ...[entry.sequence, entry.requestId, entry.tenant, entry.keyId, entry.model, entry.pool],
          ...[entry.inputTokens, entry.cachedInputTokens, entry.outputTokens, entry.outcome],
          ...[entry.reservedAtMs, entry.settledAtMs],
        );
    });
  }

  async sums(
    filter: UsageFilter,
    originMs: number,
    widthMs: number,
    groupBy: readonly UsageGroup[],
  ): Promise<UsageSum[]> {
    const columns = groupBy.map((group) => COLUMN_OF[group]);
    const where = whereOf(filter);
    const rows = this.#db
      .prepare(
        `SELECT (reserved_ms - CAST(? AS INTEGER)) / CAST(? AS INTEGER) AS bucket, sum(input) AS input, sum(cached_input) AS cached_input,
                sum(output) AS output, count(*) AS requests ${columns.map((column) => `, ${column}`).join('')}
         FROM usage WHERE ${where.sql} AND outcome <> 'refused'
         GROUP BY ${['bucket', ...columns].join(', ')} ORDER BY ${['bucket', ...columns].join(', ')}`,
      )
      .all(originMs, widthMs, ...where.values);
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

  async page(filter: UsageFilter, after: number, upTo: number, limit: number): Promise<LedgerEntry[]> {
    const where = whereOf(filter);
    return this.#db
      .prepare(
        `SELECT *, project AS tenant FROM usage
         WHERE ${where.sql} AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
      )
      .all(...where.values, after, upTo, limit)
      .map(entryOf);
  }

  async watermark(): Promise<number> {
    return int(this.#db.prepare('SELECT coalesce(max(sequence), 0) AS sequence FROM usage').get(), 'sequence');
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
