// The directory in SQL, wherever the shared stores of a host stand.
import type { AsyncSql } from '../asyncSql.ts';
import { invariant } from '../invariant.ts';
import { bytesOrNull, int, intOrNull, number, type Row, text } from '../sql.ts';
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

export class SqlDirectory implements Directory {
  readonly #db: AsyncSql;
  readonly #overwriteDeleted: () => void;

  /** `overwriteDeleted`: takes what was deleted out of the database's own log, where the host can do that. */
  constructor(db: AsyncSql, overwriteDeleted: () => void) {
    this.#db = db;
    this.#overwriteDeleted = overwriteDeleted;
  }

  async createProject({ id, name, createdAtMs, archivedAtMs }: Project, cacheSalt: Uint8Array): Promise<void> {
    await this.#db.batch([
      {
        text: 'INSERT INTO projects (id, name, created_ms, archived_ms) VALUES (?, ?, ?, ?)',
        values: [id, name, createdAtMs, archivedAtMs],
      },
      { text: 'INSERT INTO cache_salts (project, salt) VALUES (?, ?)', values: [id, cacheSalt] },
    ]);
  }

  async project(id: string): Promise<Project | undefined> {
    const [row] = await this.#db.all('SELECT * FROM projects WHERE id = ?', id);
    return row && projectOf(row);
  }

  async projects(query: PageQuery & { includeArchived: boolean }): Promise<{ items: Project[]; hasMore: boolean }> {
    const rows = await this.#db.all(
      `SELECT * FROM projects
       WHERE (?1 = 1 OR archived_ms IS NULL)
         AND (?2 = '' OR rowid > coalesce((SELECT rowid FROM projects WHERE id = ?2), 0))
       ORDER BY rowid LIMIT ?3`,
      query.includeArchived ? 1 : 0,
      query.after ?? '',
      query.limit + 1,
    );
    return { items: rows.slice(0, query.limit).map(projectOf), hasMore: rows.length > query.limit };
  }

  async renameProject(id: string, name: string): Promise<void> {
    await this.#db.all('UPDATE projects SET name = ? WHERE id = ?', name, id);
  }

  async archiveProject(id: string, atMs: number): Promise<void> {
    await this.#db.batch([
      { text: 'UPDATE projects SET archived_ms = coalesce(archived_ms, ?) WHERE id = ?', values: [atMs, id] },
      { text: 'DELETE FROM cache_salts WHERE project = ?', values: [id] },
    ]);
    this.#overwriteDeleted();
  }

  async service(projectId: string): Promise<ProjectService> {
    const [row] = await this.#db.look(
      `SELECT salt, weight, kv_floor_share, cache_scope
       FROM (SELECT ?1 AS id) LEFT JOIN cache_salts ON cache_salts.project = id
         LEFT JOIN service_policies ON service_policies.project = id`,
      projectId,
    );
    invariant(row, 'the query answers one row');
    return { policy: policyOf(row), cacheSalt: bytesOrNull(row, 'salt') };
  }

  async putServicePolicy(projectId: string, { weight, kvFloorShare, cacheScope }: ServicePolicy): Promise<void> {
    await this.#db.all(
      `INSERT INTO service_policies (project, weight, kv_floor_share, cache_scope) VALUES (?1, ?2, ?3, ?4)
       ON CONFLICT (project) DO UPDATE SET weight = ?2, kv_floor_share = ?3, cache_scope = ?4`,
      ...[projectId, weight, kvFloorShare, cacheScope],
    );
  }

  async createServiceAccount({ id, projectId, name, createdAtMs }: ServiceAccount): Promise<void> {
    await this.#db.all(
      'INSERT INTO service_accounts (id, project, name, created_ms) VALUES (?, ?, ?, ?)',
      ...[id, projectId, name, createdAtMs],
    );
  }

  async serviceAccounts(projectId: string): Promise<ServiceAccount[]> {
    const rows = await this.#db.all('SELECT * FROM service_accounts WHERE project = ? ORDER BY rowid', projectId);
    return rows.map((row) => ({
      id: text(row, 'id'),
      projectId,
      name: text(row, 'name'),
      createdAtMs: int(row, 'created_ms'),
    }));
  }

  async deleteServiceAccount(projectId: string, id: string): Promise<boolean> {
    const deleted = await this.#db.all(
      'DELETE FROM service_accounts WHERE project = ? AND id = ? RETURNING id',
      projectId,
      id,
    );
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
