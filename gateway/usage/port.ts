// The usage store's contract: every settled request of all tenants, fed from the ledgers' outboxes, read by the usage and export
// routes. Rows are only ever added; a correction is a new row. Its sequence is its own: the order in which it took them in.
import type { LedgerEntry } from '../ledger/port.ts';

export interface UsageFilter {
  /** Unix milliseconds by time of reservation, inclusive and exclusive. */
  startMs: number;
  endMs: number;
  projects?: readonly string[];
  keys?: readonly string[];
  models?: readonly string[];
}

export type UsageGroup = 'project_id' | 'api_key_id' | 'model';

export interface UsageSum {
  /** Start of the bucket. */
  bucketMs: number;
  /** Values of the groups that were asked for, null for others. */
  group: Record<UsageGroup, string | null>;
  inputTokens: number;
  cachedInputTokens: number;
  outputTokens: number;
  requests: number;
}

export interface UsageStore {
  /** Adds entries in their order, all or none; one whose request is there already changes nothing. Their ledger's sequence is not kept. */
  append(entries: readonly LedgerEntry[]): Promise<void>;
  /** Sums per group and bucket of `widthMs`, counted from `originMs`, in the order of buckets. Refused requests aren't counted. */
  sums(filter: UsageFilter, originMs: number, widthMs: number, groupBy: readonly UsageGroup[]): Promise<UsageSum[]>;
  /** Entries behind sequence `after`, not past `upTo`, oldest first. */
  page(filter: UsageFilter, after: number, upTo: number, limit: number): Promise<LedgerEntry[]>;
  /** Sequence of the newest entry; 0 without any. */
  watermark(): Promise<number>;
}
