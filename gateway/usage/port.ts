// The usage store's contract: every settled request of all tenants, fed from the ledgers' outboxes, read by the usage and export
// routes. Rows are only ever added; a correction is a new row. Its sequence is its own: the order in which it took them in.
import type { LedgerEntry } from '../ledger/port.ts';
import type { Price, Tokens } from '../prices/price.ts';

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

/** Entries that the store took in behind `after`, not past `upTo`: a set that never changes any more. */
export interface UsageRange {
  after: number;
  upTo: number;
}

/** Tokens of one project, model and price in one bucket. */
export interface PricedUse extends Tokens {
  bucketMs: number;
  project: string;
  /** '' where the query doesn't tell keys apart. */
  keyId: string;
  model: string;
  price: Price | null;
  /** The month of the reservation had ended when this was settled: its bill may have been sent. */
  late: boolean;
}

export interface PricedQuery {
  filter: UsageFilter;
  range: UsageRange;
  originMs: number;
  widthMs: number;
  byKey: boolean;
  /** Rows behind this one, which an earlier answer ended with. */
  behind?: PricedUse;
  limit: number;
}

export interface UsageStore {
  /** Adds entries in their order, all or none; one whose request is there already changes nothing. Their ledger's sequence is not kept. */
  append(entries: readonly LedgerEntry[]): Promise<void>;
  /** Sums per group and bucket of `widthMs`, counted from `originMs`, in the order of buckets. Refused requests aren't counted. */
  sums(filter: UsageFilter, originMs: number, widthMs: number, groupBy: readonly UsageGroup[]): Promise<UsageSum[]>;
  /** Sums by everything that a price depends on, in the order of bucket, project, key, model, price, late. */
  priced(query: PricedQuery): Promise<PricedUse[]>;
  /** Unix milliseconds of the first reservation in the range and the filter; null: there is none. */
  firstUse(filter: UsageFilter, range: UsageRange): Promise<number | null>;
  /** Entries behind sequence `after`, not past `upTo`, oldest first. */
  page(filter: UsageFilter, after: number, upTo: number, limit: number): Promise<LedgerEntry[]>;
  /** The rows of these requests, of those that have one. */
  entriesOf(requestIds: readonly string[]): Promise<LedgerEntry[]>;
  /** What is billed by estimate, in all. */
  estimated(): Promise<Tokens & { requests: number }>;
  /** Sequence of the newest entry; 0 without any. */
  watermark(): Promise<number>;
}
