// The ledger's contract: a handful of asynchronous commands, each atomic and durable when it resolves, and each on one tenant, whom its
// first argument names. On Node all of them are SQLite in this process; at the edge each tenant has a Durable Object. What a host does with
// the whole of a database that it keeps is LedgerStore. It knows tokens, windows and holds, and neither HTTP nor pools.
//
// Life of a hold:  admit ─▶ held ─▶ (shrink) ─▶ settle ─▶ one entry, booked in the windows of its reservation
//                            └─ past its expiry ─▶ unresolved: still counts, until a receipt or proof of no use settles it
import type { KeyHash } from '../keys/apiKey.ts';
import type { Bill } from './bill.ts';
import type { Demand } from './decide.ts';
import type { WindowKind } from './windows.ts';

/** Most quotas of one tenant: each is checked at every request. */
export const MAX_QUOTAS = 32;
/** Most models that one quota names. */
export const MAX_QUOTA_MODELS = 64;
/** Most rows that one command reads. */
export const MAX_LEDGER_PAGE = 1000;

export interface QuotaRule {
  window: WindowKind;
  limitTokens: number;
  /** null: all models together. */
  models: readonly string[] | null;
  /** IANA zone whose calendar the window follows. */
  timeZone: string;
}

/** A quota in the window that is open now. */
export interface QuotaState extends QuotaRule {
  settledTokens: number;
  heldTokens: number;
  /** Unix milliseconds; null: never. */
  resetsAtMs: number | null;
}

export interface KeyRecord {
  id: string;
  tenant: string;
  serviceAccountId: string | null;
  name: string;
  redacted: string;
  createdAtMs: number;
  lastUsedAtMs: number | null;
  expiresAtMs: number | null;
}

export interface KeyPresented {
  tenant: string;
  /** Newest pepper first. */
  hashes: readonly KeyHash[];
}

export interface AdmitCommand extends KeyPresented {
  requestId: string;
  model: string;
  pool: string;
  demand: Demand;
  nowMs: number;
  /** The pool releases nothing after this. */
  deadlineMs: number;
  /** Later than the deadline; then the hold is unresolved. */
  expiresMs: number;
}

export type KeyRefusal = 'unknown_key' | 'expired_key' | 'archived';

export type Admission =
  | { kind: 'granted'; keyId: string; outputTokens: number; holdTokens: number; quotas: QuotaState[] }
  | { kind: 'count_first' }
  | { kind: 'too_large' | 'exhausted' | 'held'; quota: QuotaState; neededTokens: number; quotas: QuotaState[] }
  | { kind: KeyRefusal };

export type KeyStatus = { kind: 'known'; key: KeyRecord; quotas: QuotaState[] } | { kind: KeyRefusal };

export interface Hold {
  requestId: string;
  tenant: string;
  keyId: string;
  model: string;
  pool: string;
  holdTokens: number;
  reservedAtMs: number;
  deadlineMs: number;
  expiresMs: number;
  state: 'held' | 'unresolved';
}

export interface SettleCommand {
  tenant: string;
  requestId: string;
  bill: Bill;
  nowMs: number;
}

/** `booked`: this call made the entry. `already`: an earlier one did; nothing changed. `unknown`: no such hold or entry here. */
export type Settlement = 'booked' | 'already' | 'unknown';

/** One request's row: written once, never changed. */
export interface LedgerEntry extends Bill {
  /** Ascending in the order of settlement. */
  sequence: number;
  requestId: string;
  tenant: string;
  keyId: string;
  model: string;
  pool: string;
  reservedAtMs: number;
  settledAtMs: number;
}

export interface Ledger {
  /** Checks the key and reserves, in one atomic step, over every window or nothing. */
  admit(command: AdmitCommand): Promise<Admission>;
  /** Checks the key alone. */
  keyStatus(command: KeyPresented & { nowMs: number }): Promise<KeyStatus>;
  /** Lowers a hold to `holdTokens`; raising, or a hold that is gone, changes nothing. */
  shrink(command: { tenant: string; requestId: string; holdTokens: number }): Promise<void>;
  /** Ends a hold, whatever its state. Idempotent by request id. */
  settle(command: SettleCommand): Promise<Settlement>;

  openTenant(tenant: string): Promise<void>;
  /** From then on every key of the tenant is refused. */
  archiveTenant(tenant: string): Promise<void>;
  /** Replaces all quotas. Use of the open windows is kept, also for a rule that is new. */
  putQuotas(tenant: string, rules: readonly QuotaRule[], nowMs: number): Promise<QuotaState[]>;
  quotas(tenant: string, nowMs: number): Promise<QuotaState[]>;
  addKey(record: KeyRecord, hash: KeyHash): Promise<void>;
  keys(tenant: string): Promise<KeyRecord[]>;
  /** Revokes: the next request is refused. False when there was none. */
  deleteKey(tenant: string, keyId: string): Promise<boolean>;
}

/** A database of one tenant or all, with what its host does for everything in it. */
export interface LedgerStore extends Ledger {
  /** Marks holds past their expiry as unresolved; how many. */
  expire(nowMs: number): Promise<number>;
  /** Open holds in the order of their request ids, behind `after`. */
  holds(query: { after?: string; limit: number }): Promise<Hold[]>;
  holdCounts(): Promise<{ held: number; unresolved: number }>;

  /** Entries that are not acknowledged yet, oldest first. */
  outbox(limit: number): Promise<LedgerEntry[]>;
  /** Forgets the outbox (not the entries) up to and including this sequence. */
  acknowledgeOutbox(upTo: number): Promise<void>;
}
