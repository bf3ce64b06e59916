// The audit log's contract: what administrators did, in order, for ever. An entry names who, what and on what; never a key, a prompt or
// a value that was set.

export interface AuditEvent {
  id: string;
  atMs: number;
  /** As "project.created". */
  type: string;
  /** Id of the admin key, or `bootstrap` for the configured one. */
  actor: string;
  projectId: string | null;
  /** Id of what was acted on. */
  target: string | null;
}

export interface AuditQuery {
  /** Unix milliseconds, inclusive and exclusive. */
  fromMs: number;
  toMs: number;
  projects?: readonly string[];
  types?: readonly string[];
  actors?: readonly string[];
  targets?: readonly string[];
  /** Id of an event; the list goes on behind it. */
  after?: string;
  limit: number;
}

export interface AuditLog {
  append(event: AuditEvent): Promise<void>;
  /** Newest first. */
  events(query: AuditQuery): Promise<{ items: AuditEvent[]; hasMore: boolean }>;
}
