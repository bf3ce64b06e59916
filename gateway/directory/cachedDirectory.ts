// The directory with what every request asks of it kept in memory: at the edge D1 is a network away, on Node a query is a noticeable part of
// a request. What is changed through this one counts at once. On Node nobody else changes anything; at the edge a policy that was put, or a
// project archived, by another isolate counts here a little later. A project's keys are the ledger's, and refused at once all the same.
import { AgedCache } from '../agedCache.ts';
import type { AsyncSql } from '../asyncSql.ts';
import type { Clock } from '../clock.ts';
import type { Directory, ProjectService, ServicePolicy } from './port.ts';
import { SqlDirectory } from './sqlDirectory.ts';

export interface Remembered {
  /** At most; about 400 bytes each. */
  projects: number;
  /** Infinity: nobody else changes them. */
  validMs: number;
}

/** In an isolate that is one of many. */
const BESIDE_OTHERS: Remembered = { projects: 10_000, validMs: 10_000 };

export class CachedDirectory extends SqlDirectory implements Directory {
  readonly #services: AgedCache<ProjectService>;
  /** How often something changed: what was asked for before may be old. */
  #changes = 0;

  constructor(db: AsyncSql, overwriteDeleted: () => void, clock: Clock, remembered = BESIDE_OTHERS) {
    super(db, overwriteDeleted);
    this.#services = new AgedCache(remembered.projects, remembered.validMs, clock);
  }

  override async service(projectId: string): Promise<ProjectService> {
    const known = this.#services.get(projectId);
    if (known) return known;
    const before = this.#changes;
    const service = await super.service(projectId);
    if (this.#changes === before) this.#services.set(projectId, service);
    return service;
  }

  override async putServicePolicy(projectId: string, policy: ServicePolicy): Promise<void> {
    await super.putServicePolicy(projectId, policy).finally(() => this.#forget(projectId));
  }

  override async archiveProject(id: string, atMs: number): Promise<void> {
    await super.archiveProject(id, atMs).finally(() => this.#forget(id));
  }

  #forget(projectId: string): void {
    this.#changes++;
    this.#services.delete(projectId);
  }
}
