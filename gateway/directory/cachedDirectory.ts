// The directory with what every request asks of it kept in memory: at the edge D1 is a network away, on Node a query is a noticeable part of
// a request. What is changed through this one counts at once. A policy that was put, or a project archived, by another isolate counts here
// a little later; a project's keys are the ledger's, and refused at once all the same.
import { AgedCache } from '../agedCache.ts';
import type { AsyncSql } from '../asyncSql.ts';
import type { Clock } from '../clock.ts';
import type { Directory, ProjectService, ServicePolicy } from './port.ts';
import { SqlDirectory } from './sqlDirectory.ts';

const VALID_MS = 10_000;
/** About 200 bytes each. */
const MAX_PROJECTS = 10_000;

export class CachedDirectory extends SqlDirectory implements Directory {
  readonly #services: AgedCache<ProjectService>;

  constructor(db: AsyncSql, overwriteDeleted: () => void, clock: Clock) {
    super(db, overwriteDeleted);
    this.#services = new AgedCache(MAX_PROJECTS, VALID_MS, clock);
  }

  override async service(projectId: string): Promise<ProjectService> {
    const known = this.#services.get(projectId);
    if (known) return known;
    const service = await super.service(projectId);
    this.#services.set(projectId, service);
    return service;
  }

  override async putServicePolicy(projectId: string, policy: ServicePolicy): Promise<void> {
    await super.putServicePolicy(projectId, policy);
    this.#services.delete(projectId);
  }

  override async archiveProject(id: string, atMs: number): Promise<void> {
    await super.archiveProject(id, atMs);
    this.#services.delete(id);
  }
}
