// Who exists: projects, how each is served, and their service accounts, as the administration routes show them. Keys, quotas and use
// are the ledger's.

export interface Project {
  id: string;
  name: string;
  createdAtMs: number;
  archivedAtMs: number | null;
}

/** Whose requests share cached prefixes: all of a project, those of one API key, or none. */
export const CACHE_SCOPES = ['project', 'api_key', 'none'] as const;
export type CacheScopeKind = (typeof CACHE_SCOPES)[number];

/** How a project is served beside the others. */
export interface ServicePolicy {
  /** Share of service and of the KV cache relative to other projects; > 0. */
  weight: number;
  /** Part of each pool's KV cache, 0 to 1, that others' demand never takes from it while it is active. */
  kvFloorShare: number;
  cacheScope: CacheScopeKind;
}

export const DEFAULT_SERVICE_POLICY: ServicePolicy = { weight: 1, kvFloorShare: 0, cacheScope: 'project' };

/** What every request of a project needs to know of it. */
export interface ProjectService {
  policy: ServicePolicy;
  /** The random part of the keys of its cache. null: the project is archived, or never was: it has no cache. */
  cacheSalt: Uint8Array | null;
}

export interface ServiceAccount {
  id: string;
  projectId: string;
  name: string;
  createdAtMs: number;
}

/** A page of a list in the order of creation, behind the item with id `after`. */
export interface PageQuery {
  after?: string;
  limit: number;
}

export interface Directory {
  createProject(project: Project, cacheSalt: Uint8Array): Promise<void>;
  project(id: string): Promise<Project | undefined>;
  /** One more than `limit` is never returned; `hasMore` tells of it. */
  projects(query: PageQuery & { includeArchived: boolean }): Promise<{ items: Project[]; hasMore: boolean }>;
  renameProject(id: string, name: string): Promise<void>;
  /** Destroys the cache salt, too. */
  archiveProject(id: string, atMs: number): Promise<void>;
  /** The default policy where none was put. */
  service(projectId: string): Promise<ProjectService>;
  putServicePolicy(projectId: string, policy: ServicePolicy): Promise<void>;
  createServiceAccount(account: ServiceAccount): Promise<void>;
  serviceAccounts(projectId: string): Promise<ServiceAccount[]>;
  /** False when there was none. */
  deleteServiceAccount(projectId: string, id: string): Promise<boolean>;
}
