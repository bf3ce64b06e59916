// The audit log's contract: what administrators did, in order, for ever. An entry names who, what and on what; never a key, a prompt or
// a value that was set. An action may concern stores that no transaction has in common, so it is noted before it is done:
//
//   begin, durable ─▶ the action ─▶ end: its entry in place of the note, or nothing of a refused one
//                         └─ process or storage fails ─▶ conclude: an entry that says `unknown`

/** An action that is about to be done. */
export interface AuditIntent {
  id: string;
  atMs: number;
  /** As "project.created". */
  type: string;
  /** Id of the admin key, or `bootstrap` for the configured one. */
  actor: string;
  projectId: string | null;
  /** Id of what was acted on; null: it is being made. */
  target: string | null;
}

export interface AuditEvent extends AuditIntent {
  /** `unknown`: the gateway failed or ended over it, so all, some or none of it was done. */
  outcome: 'done' | 'unknown';
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
  begin(intent: AuditIntent): Promise<void>;
  /** `target`: what was made. `refused`: nothing was done. */
  end(id: string, outcome: AuditEvent['outcome'] | 'refused', target: string | null): Promise<void>;
  /** Writes the entries of those that began before this and have not ended. */
  conclude(beforeMs: number): Promise<void>;
  /** Newest first. */
  events(query: AuditQuery): Promise<{ items: AuditEvent[]; hasMore: boolean }>;
}
