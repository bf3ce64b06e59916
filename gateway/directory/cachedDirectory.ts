// The directory with what every request asks of it kept in memory: at the edge D1 is a network away, on Node a query is a noticeable part of
// a request. What is changed through this one counts at once. A policy that was put, or a project archived, by another isolate counts here
// a little later; a project's keys are the ledger's, and refused at once all the same.
import { LRUCache } from 'lru-cache';
import type { Directory, ProjectService, ServicePolicy } from './port.ts';
import { SqlDirectory } from './sqlDirectory.ts';

const VALID_MS = 10_000;
/** The age of what is kept is looked at this exactly: exact to the millisecond, each look would set a timer. */
const AGE_RESOLUTION_MS = 1000;
/** About 200 bytes each. */
const MAX_PROJECTS = 10_000;

export class CachedDirectory extends SqlDirectory implements Directory {
  readonly #services = new LRUCache<string, ProjectService>({
    ...{ max: MAX_PROJECTS, ttl: VALID_MS, ttlResolution: AGE_RESOLUTION_MS },
  });

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
