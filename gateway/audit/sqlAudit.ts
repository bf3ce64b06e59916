// The audit log in SQL. The table itself refuses to change or lose a row (migrations.ts).
import type { AsyncSql } from '../asyncSql.ts';
import { int, type Row, type SqlValue, text, textOrNull } from '../sql.ts';
import type { AuditEvent, AuditLog, AuditQuery } from './port.ts';

export class SqlAudit implements AuditLog {
  readonly #db: AsyncSql;

  constructor(db: AsyncSql) {
    this.#db = db;
  }

  async append({ id, atMs, type, actor, projectId, target }: AuditEvent): Promise<void> {
    await this.#db.all(
      'INSERT INTO audit_log (id, at_ms, type, actor, project, target) VALUES (?, ?, ?, ?, ?, ?)',
      ...[id, atMs, type, actor, projectId, target],
    );
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
    id: text(row, 'id'),
    atMs: int(row, 'at_ms'),
    type: text(row, 'type'),
    actor: text(row, 'actor'),
    projectId: textOrNull(row, 'project'),
    target: textOrNull(row, 'target'),
  };
}
