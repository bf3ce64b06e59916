// Who exists: projects and their service accounts, as the administration routes show them. Keys, quotas and use are the ledger's.

export interface Project {
  id: string;
  name: string;
  createdAtMs: number;
  archivedAtMs: number | null;
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
  createProject(project: Project): Promise<void>;
  project(id: string): Promise<Project | undefined>;
  /** One more than `limit` is never returned; `hasMore` tells of it. */
  projects(query: PageQuery & { includeArchived: boolean }): Promise<{ items: Project[]; hasMore: boolean }>;
  renameProject(id: string, name: string): Promise<void>;
  archiveProject(id: string, atMs: number): Promise<void>;
  createServiceAccount(account: ServiceAccount): Promise<void>;
  serviceAccounts(projectId: string): Promise<ServiceAccount[]>;
  /** False when there was none. */
  deleteServiceAccount(projectId: string, id: string): Promise<boolean>;
}
