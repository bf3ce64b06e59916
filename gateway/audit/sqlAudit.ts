// The audit log in SQL. The table itself refuses to change or lose a row (migrations.ts).
import type { AsyncSql } from '../asyncSql.ts';
import { int, type Row, type SqlValue, text, textOrNull } from '../sql.ts';
import type { AuditEvent, AuditIntent, AuditLog, AuditQuery } from './port.ts';

/** ?1: what was made, ?2: the outcome. What names nothing else is about its project. */
const ENTRY = `INSERT INTO audit_log (id, at_ms, type, actor, project, target, outcome)
  SELECT id, at_ms, type, actor, project, coalesce(target, ?1, project), ?2 FROM audit_intents`;

export class SqlAudit implements AuditLog {
  readonly #db: AsyncSql;

  constructor(db: AsyncSql) {
    this.#db = db;
  }

  async begin({ id, atMs, type, actor, projectId, target }: AuditIntent): Promise<void> {
    await this.#db.all(
      'INSERT INTO audit_intents (id, at_ms, type, actor, project, target) VALUES (?, ?, ?, ?, ?, ?)',
      ...[id, atMs, type, actor, projectId, target],
    );
  }

  /** Of one that is concluded already nothing is written: its entry stands. */
  async end(id: string, outcome: AuditEvent['outcome'] | 'refused', target: string | null): Promise<void> {
    const gone = { text: 'DELETE FROM audit_intents WHERE id = ?', values: [id] };
    const entry = { text: `${ENTRY} WHERE id = ?3`, values: [target, outcome, id] };
    await this.#db.batch(outcome === 'refused' ? [gone] : [entry, gone]);
  }

  async conclude(beforeMs: number): Promise<void> {
    const open = await this.#db.all('SELECT 1 FROM audit_intents WHERE at_ms < ? LIMIT 1', beforeMs);
    if (open.length === 0) return;
    await this.#db.batch([
      { text: `${ENTRY} WHERE at_ms < ?3 ORDER BY at_ms, id`, values: [null, 'unknown', beforeMs] },
      { text: 'DELETE FROM audit_intents WHERE at_ms < ?', values: [beforeMs] },
    ]);
  }

  async events(query: AuditQuery): Promise<{ items: AuditEvent[]; hasMore: boolean }> {
    const clauses = ['at_ms >= ?', 'at_ms < ?'];
    const values: SqlValue[] = [query.fromMs, query.toMs];
    for (const [column, wanted] of [
      ['project', query.projects],
      ['type', query.types],
      ['actor', query.actors],
      ['target', query.targets],
    ] as const) {
      if (!wanted) continue;
      clauses.push(`${column} IN (SELECT value FROM json_each(?))`);
      values.push(JSON.stringify(wanted));
    }
    if (query.after !== undefined) {
      clauses.push('sequence < (SELECT sequence FROM audit_log WHERE id = ?)');
      values.push(query.after);
    }
    const rows = await this.#db.all(
      `SELECT * FROM audit_log WHERE ${clauses.join(' AND ')} ORDER BY sequence DESC LIMIT ?`,
      ...[...values, query.limit + 1],
    );
    return { items: rows.slice(0, query.limit).map(eventOf), hasMore: rows.length > query.limit };
  }
}

function eventOf(row: Row): AuditEvent {
  return {
    outcome: text(row, 'outcome') === 'done' ? 'done' : 'unknown',
    id: text(row, 'id'),
    atMs: int(row, 'at_ms'),
    type: text(row, 'type'),
    actor: text(row, 'actor'),
    projectId: textOrNull(row, 'project'),
    target: textOrNull(row, 'target'),
  };
}
