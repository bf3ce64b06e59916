// The directory on node:sqlite.
import { invariant } from '../invariant.ts';
import { bytesOrNull, int, intOrNull, number, type Row, type Sql, type Statement, text } from '../sql.ts';
import {
  CACHE_SCOPES,
  DEFAULT_SERVICE_POLICY,
  type Directory,
  type PageQuery,
  type Project,
  type ProjectService,
  type ServiceAccount,
  type ServicePolicy,
} from './port.ts';

export class SqliteDirectory implements Directory {
  readonly #db: Sql;
  /** Asked for every request. */
  readonly #service: Statement;

  constructor(db: Sql) {
    this.#db = db;
    this.#service = db.prepare(
      `SELECT salt, weight, kv_floor_share, cache_scope
       FROM (SELECT ?1 AS id) LEFT JOIN cache_salts ON cache_salts.project = id
         LEFT JOIN service_policies ON service_policies.project = id`,
    );
  }

  async createProject({ id, name, createdAtMs, archivedAtMs }: Project, cacheSalt: Uint8Array): Promise<void> {
    this.#db.transaction(() => {
      this.#db
        .prepare('INSERT INTO projects (id, name, created_ms, archived_ms) VALUES (?, ?, ?, ?)')
        .run(id, name, createdAtMs, archivedAtMs);
      this.#db.prepare('INSERT INTO cache_salts (project, salt) VALUES (?, ?)').run(id, cacheSalt);
    });
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
    this.#db.transaction(() => {
      this.#db.prepare('UPDATE projects SET archived_ms = coalesce(archived_ms, ?) WHERE id = ?').run(atMs, id);
      this.#db.prepare('DELETE FROM cache_salts WHERE project = ?').run(id);
    });
    // Deleted content is overwritten (secure_delete), but older pages still stand in the log until it is cut.
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  }

  async service(projectId: string): Promise<ProjectService> {
    const row = this.#service.get(projectId);
    invariant(row, 'the query answers one row');
    return { policy: policyOf(row), cacheSalt: bytesOrNull(row, 'salt') };
  }

  async putServicePolicy(projectId: string, { weight, kvFloorShare, cacheScope }: ServicePolicy): Promise<void> {
    this.#db
      .prepare(
        `INSERT INTO service_policies (project, weight, kv_floor_share, cache_scope) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (project) DO UPDATE SET weight = ?2, kv_floor_share = ?3, cache_scope = ?4`,
      )
      .run(projectId, weight, kvFloorShare, cacheScope);
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
    const deleted = this.#db
      .prepare('DELETE FROM service_accounts WHERE project = ? AND id = ? RETURNING id')
      .all(projectId, id);
    return deleted.length > 0;
  }
}

function policyOf(row: Row): ServicePolicy {
  if (row.weight === null) return DEFAULT_SERVICE_POLICY;
  const kind = text(row, 'cache_scope');
  const cacheScope = CACHE_SCOPES.find((one) => one === kind);
  invariant(cacheScope, 'a cache scope is one of a closed set', { kind });
  return { weight: number(row, 'weight'), kvFloorShare: number(row, 'kv_floor_share'), cacheScope };
}

function projectOf(row: Row): Project {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    createdAtMs: int(row, 'created_ms'),
    archivedAtMs: intOrNull(row, 'archived_ms'),
  };
}
