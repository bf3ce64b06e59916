// The ledger's contract: a handful of asynchronous commands, each atomic and durable when it resolves, and each on one tenant, whom its
// first argument names. On Node all of them are SQLite in this process; at the edge each tenant has a Durable Object. What a host does with
// the whole of a database that it keeps is LedgerStore. It knows tokens, windows and holds, and neither HTTP nor pools.
//
// Life of a hold:  admit ─▶ held ─▶ (shrink) ─▶ settle ─▶ one entry, booked in the windows of its reservation
//                            └─ past its expiry ─▶ unresolved: still counts, until a receipt or proof of no use settles it
import type { KeyHash } from '../keys/apiKey.ts';
import type { Price } from '../prices/price.ts';
import type { Bill, Released } from './bill.ts';
import type { Demand, HoldBounds, RefusalKind } from './decide.ts';
import type { KeyConflict, PresentedKey, SealedAnswer } from './idempotency.ts';
import type { LimitRule, LimitState } from './limits.ts';

/** Most limits of one tenant, and of one key: each is checked at every request. */
export const MAX_TENANT_LIMITS = 64;
export const MAX_KEY_LIMITS = 16;
/** Most models that one limit, tenant or key names. */
export const MAX_NAMED_MODELS = 64;
/** Most rows that one command reads. */
export const MAX_LEDGER_PAGE = 1000;

export interface KeyRecord {
  id: string;
  tenant: string;
  serviceAccountId: string | null;
  name: string;
  redacted: string;
  createdAtMs: number;
  lastUsedAtMs: number | null;
  expiresAtMs: number | null;
  /** Models that it may use, of those that its tenant may; null: all of them. */
  models: readonly string[] | null;
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
  /** In force now; null: the model costs nothing. The hold and the bill keep to it. */
  price: Price | null;
  nowMs: number;
  /** The pool releases nothing after this. */
  deadlineMs: number;
  /** Later than the deadline; then the hold is unresolved. */
  expiresMs: number;
  /** The request came under a key; its record is written with the hold. */
  idempotency?: NewAttempt;
}

/** `requestId` of its command: as `recall` said, or a new one. */
export interface NewAttempt extends PresentedKey {
  /** Of a first attempt: the later ones keep to it. */
  seed: number;
  /** Until then an answer is replayed. */
  keptUntilMs: number;
}

export interface RecallCommand extends KeyPresented, PresentedKey {
  model: string;
  nowMs: number;
  /** The answer that is kept doesn't open any more, as its pepper is gone: it is forgotten, and so its attempt was lost. */
  unreadable?: true;
}

/** What a key's record says: run it as a request of its own, or as the next attempt of one that was lost; or what there is instead. */
export type Recollection =
  | { kind: 'absent' }
  | { kind: 'lost'; next: string }
  /** `answer`: as it was settled with. */
  | { kind: 'answered'; requestId: string; answer: Uint8Array; limits: LimitState[] }
  | { kind: KeyConflict }
  | { kind: 'model_not_allowed' }
  | { kind: KeyRefusal };

export type KeyRefusal = 'unknown_key' | 'expired_key' | 'archived';

export type Admission =
  /** `hold`: what it may be billed in all. `seed`: of its key's record; null: it has none. */
  | {
      kind: 'granted';
      keyId: string;
      outputTokens: number;
      seed: number | null;
      hold: HoldBounds;
      limits: LimitState[];
    }
  | { kind: 'count_first' }
  | {
      kind: RefusalKind;
      limit: LimitState;
      needed: number;
      /** Until enough is free; null: waiting doesn't help, or ends with the window (`resetsAtMs`). */
      retryAfterMs: number | null;
      limits: LimitState[];
    }
  | { kind: KeyConflict }
  | { kind: 'model_not_allowed' }
  | { kind: KeyRefusal };

export type KeyStatus =
  | { kind: 'known'; key: KeyRecord; limits: LimitState[]; allowedModels: readonly string[] | null }
  | { kind: KeyRefusal };

export interface Hold extends HoldBounds {
  requestId: string;
  tenant: string;
  keyId: string;
  model: string;
  pool: string;
  price: Price | null;
  reservedAtMs: number;
  deadlineMs: number;
  expiresMs: number;
  state: 'held' | 'unresolved';
  /** How often it has gone on at another pool, or begun there again; it may be signed for `pool` from `legFromMs` on. */
  leg: number;
  legFromMs: number;
  /** What the pools before this one had released of it; null: nothing. */
  released: Released | null;
}

/** Where a hold stands among all. */
export type HoldPlace = Pick<Hold, 'tenant' | 'requestId'>;

export interface RerouteCommand {
  tenant: string;
  requestId: string;
  /** Where it goes on. */
  pool: string;
  /** So far; null: nothing. */
  released: Released | null;
  nowMs: number;
}

export interface SettleCommand {
  tenant: string;
  requestId: string;
  bill: Bill;
  nowMs: number;
  /** Whose word it is, where the request's own relay does not say it: it counts for the pool that has the request, and for that leg of it. */
  word?: { pool: string; leg?: number };
  /** To be replayed to who comes again under its key. */
  answer?: SealedAnswer;
}

/**
 * `booked`: this call made the entry. `already`: an earlier one did; nothing changed. `unknown`: no such hold or entry here. `elsewhere`: the
 * request has gone on at another pool, or at this one anew; nothing changed.
 */
export type Settlement = 'booked' | 'already' | 'unknown' | 'elsewhere';

/** One request's row: written once, never changed. */
export interface LedgerEntry extends Bill {
  /** Ascending in the order of settlement. */
  sequence: number;
  requestId: string;
  tenant: string;
  keyId: string;
  model: string;
  pool: string;
  /** In force at the reservation. */
  price: Price | null;
  costNanoUsd: number;
  reservedAtMs: number;
  settledAtMs: number;
}

/** A group of rules that is replaced whole: of the tenant, or of one of its keys. */
export interface LimitSet {
  keyId: string | null;
  set: string;
  rules: readonly LimitRule[];
}

/** What of a key can be changed; what is absent stays. */
export type KeyChange = Partial<Pick<KeyRecord, 'name' | 'expiresAtMs' | 'models'>>;

export interface KeyRotation {
  tenant: string;
  keyId: string;
  hash: KeyHash;
  redacted: string;
  /** The values of before are good until then, and no earlier one longer than it was. */
  oldGoodUntilMs: number;
}

export interface Ledger {
  /** What stands under an idempotency key. `admit` decides it again. */
  recall(command: RecallCommand): Promise<Recollection>;
  /** Checks the key and reserves, in one atomic step, over every window or nothing. */
  admit(command: AdmitCommand): Promise<Admission>;
  /** Checks the key alone. */
  keyStatus(command: KeyPresented & { nowMs: number }): Promise<KeyStatus>;
  /** Lowers a hold's bounds to these; raising, or a hold that is gone, changes nothing. */
  shrink(command: { tenant: string; requestId: string } & HoldBounds): Promise<void>;
  /**
   * The request goes on at another pool, or begins there again: from now on that pool's word counts, and what was released before is billed
   * in any case. False: its hold has ended, so it must not.
   */
  reroute(command: RerouteCommand): Promise<boolean>;
  /** Ends a hold, whatever its state. Idempotent by request id. */
  settle(command: SettleCommand): Promise<Settlement>;

  openTenant(tenant: string): Promise<void>;
  /** From then on every key of the tenant is refused. */
  archiveTenant(tenant: string): Promise<void>;
  /** Models that the tenant may use; null: all. */
  allowModels(tenant: string, models: readonly string[] | null): Promise<void>;
  allowedModels(tenant: string): Promise<readonly string[] | null>;
  /**
   * Replaces whole sets of limits, all or none; the tenant's limits after it. Use of the open windows is kept, also for a rule that is
   * new. `too_many`: nothing was changed.
   */
  putLimits(tenant: string, sets: readonly LimitSet[], nowMs: number): Promise<LimitState[] | 'too_many'>;
  /** All of the tenant and its keys. */
  limits(tenant: string, nowMs: number): Promise<LimitState[]>;
  addKey(record: KeyRecord, hash: KeyHash): Promise<void>;
  keys(tenant: string): Promise<KeyRecord[]>;
  /** False when there was none. */
  changeKey(tenant: string, keyId: string, change: KeyChange): Promise<boolean>;
  /** Gives a key a new value, under the same id. False when there was none. */
  rotateKey(rotation: KeyRotation): Promise<boolean>;
  /** Revokes: the next request is refused, by either value. False when there was none. */
  deleteKey(tenant: string, keyId: string): Promise<boolean>;
  /** Keys that were last hashed under an older pepper than this, the oldest first: in no use since it came. */
  stragglers(tenant: string, newestPepperVersion: number): Promise<KeyStraggler[]>;
}

export interface KeyStraggler {
  keyId: string;
  pepperVersion: number;
  lastUsedAtMs: number | null;
}

/** A database of one tenant or all, with what its host does for everything in it. */
export interface LedgerStore extends Ledger {
  /** Marks holds past their expiry as unresolved; how many. Forgets records of idempotency keys past theirs. */
  expire(nowMs: number): Promise<number>;
  /**
   * Does some of what settlements left to be done behind them (entryRuns.ts); true while there is more. For a host to call until there isn't,
   * every second or so: what is left takes memory, and time at the next start.
   */
  tend(): Promise<boolean>;
  /** When the next of those records is past its time; null: none is kept. Unix milliseconds. */
  keptUntil(): Promise<number | null>;
  /** Open holds, by tenant and request id, behind `after`. */
  holds(query: { after?: HoldPlace; limit: number }): Promise<Hold[]>;
  holdCounts(): Promise<{ held: number; unresolved: number }>;

  /** Entries that are not acknowledged yet, oldest first. */
  outbox(limit: number): Promise<LedgerEntry[]>;
  /** Forgets the outbox (not the entries) up to and including this sequence. */
  acknowledgeOutbox(upTo: number): Promise<void>;
}
