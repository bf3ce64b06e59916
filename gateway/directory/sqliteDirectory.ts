// The directory on node:sqlite.
import type { DatabaseSync } from 'node:sqlite';
import { int, intOrNull, type Row, text } from '../sqlite.ts';
import type { Directory, PageQuery, Project, ServiceAccount } from './port.ts';

export class SqliteDirectory implements Directory {
  readonly #db: DatabaseSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  async createProject({ id, name, createdAtMs, archivedAtMs }: Project): Promise<void> {
    this.#db
      .prepare('INSERT INTO projects (id, name, created_ms, archived_ms) VALUES (?, ?, ?, ?)')
      .run(id, name, createdAtMs, archivedAtMs);
  }

  async project(id: string): Promise<Project | undefined> {
    const row = this.#db.prepare('SELECT * FROM projects WHERE id = ?').get(id);
    return row && projectOf(row);
  }

  async projects(query: PageQuery & { includeArchived: boolean }): Promise<{ items: Project[]; hasMore: boolean }> {
    const rows = this.#db
      .prepare(
        `SELECT * FROM projects
         WHERE (?1 = 1 OR archived_ms IS NULL)
           AND (?2 = '' OR rowid > coalesce((SELECT rowid FROM projects WHERE id = ?2), 0))
         ORDER BY rowid LIMIT ?3`,
      )
      .all(query.includeArchived ? 1 : 0, query.after ?? '', query.limit + 1);
    return { items: rows.slice(0, query.limit).map(projectOf), hasMore: rows.length > query.limit };
  }

  async renameProject(id: string, name: string): Promise<void> {
    this.#db.prepare('UPDATE projects SET name = ? WHERE id = ?').run(name, id);
  }

  async archiveProject(id: string, atMs: number): Promise<void> {
    this.#db.prepare('UPDATE projects SET archived_ms = coalesce(archived_ms, ?) WHERE id = ?').run(atMs, id);
  }

  async createServiceAccount({ id, projectId, name, createdAtMs }: ServiceAccount): Promise<void> {
    this.#db
      .prepare('INSERT INTO service_accounts (id, project, name, created_ms) VALUES (?, ?, ?, ?)')
      .run(id, projectId, name, createdAtMs);
  }

  async serviceAccounts(projectId: string): Promise<ServiceAccount[]> {
    const rows = this.#db.prepare('SELECT * FROM service_accounts WHERE project = ? ORDER BY rowid').all(projectId);
    return rows.map((row) => ({
      id: text(row, 'id'),
      projectId,
      name: text(row, 'name'),
      createdAtMs: int(row, 'created_ms'),
    }));
  }

  async deleteServiceAccount(projectId: string, id: string): Promise<boolean> {
    const { changes } = this.#db
      .prepare('DELETE FROM service_accounts WHERE project = ? AND id = ?')
      .run(projectId, id);
    return Number(changes) > 0;
  }
}

function projectOf(row: Row): Project {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    createdAtMs: int(row, 'created_ms'),
    archivedAtMs: intOrNull(row, 'archived_ms'),
  };
}
