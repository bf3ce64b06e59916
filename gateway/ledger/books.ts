// What the ledger has in memory of tenants that ask often, so that a request reads nothing and writes only what is new: its hold, or its entry.
// All of a book stands in the database or follows from it, and goes with the process: what has changed past a book drops it, and so does a
// transaction that was undone.
//
//   book ── standing      archived, models
//        ├─ keys, rules   those that were asked for
//        ├─ holds         all that are open
//        └─ meters        of windows that were asked for: settled as stored, held as the holds say
import { LRUCache } from 'lru-cache';
import { int, type Row, type Sql, type Statement, textOrNull } from '../sql.ts';
import type { MinuteRing } from './minuteWindow.ts';
import type { KeyRecord } from './port.ts';
import { type HeldRow, holdOf } from './sqlRows.ts';
import { modelList, type StoredRule } from './sqlRules.ts';

/** Tenants, unless a host has room for more; a book takes about 2 KiB, and half of one for each request that runs. */
export const MAX_BOOKS = 8192;
/** Keys, and rules that have meters, of one book: with more it is begun anew. */
const MAX_BOOK_KEYS = 256;
const MAX_BOOK_METERS = 4096;

/** What the ledger knows of a tenant itself. */
export interface Standing {
  archived: boolean;
  models: readonly string[] | null;
}

export interface StoredKey {
  key: KeyRecord;
  /** Under the pepper of this version. */
  hash: string;
  pepperVersion: number;
  /** Of a value that was replaced. */
  goodUntilMs: number | null;
  /** When its row says that it was last used; the record itself may know better. */
  storedUseMs: number | null;
}

/** A rule's counters in one window. */
export interface WindowMeter {
  readonly startMs: number;
  /** null: it never ends. */
  readonly endMs: number | null;
  settled: number;
  held: number;
  /** Of a sliding minute; then the counters are its totals. */
  ring: MinuteRing | null;
}

export interface Book {
  readonly tenant: string;
  /** null: there is no such tenant. */
  readonly standing: Standing | null;
  /** By request id, in the order of reservation. */
  readonly holds: Map<string, HeldRow>;
  /** By the hash under which they were asked for. */
  readonly keys: Map<string, StoredKey>;
  /** By key: the tenant's rules and its own. */
  readonly rules: Map<string, readonly StoredRule[]>;
  /** By rule: a few windows, the one that was remembered last at the end. */
  readonly meters: Map<string, WindowMeter[]>;
}

export class Books {
  readonly #kept: LRUCache<string, Book>;
  readonly #standing: Statement;
  readonly #holds: Statement;
  /** Tenants whose books the transaction has had in hand. */
  readonly #touched = new Set<string>();

  constructor(db: Sql, most: number) {
    this.#kept = new LRUCache({ max: most });
    this.#standing = db.prepare('SELECT archived, models FROM tenants WHERE id = ?');
    this.#holds = db.prepare('SELECT * FROM holds WHERE tenant = ? ORDER BY reserved_ms, request_id');
    db.onEnd((done) => this.#ended(done));
  }

  /** Inside a transaction. */
  of(tenant: string): Book {
    this.#touched.add(tenant);
    const kept = this.#kept.get(tenant);
    if (kept && !isFull(kept)) return kept;
    const row = this.#standing.get(tenant);
    const standing = row ? standingOf(row) : null;
    const open = this.#holds.all(tenant).map(holdOf);
    const holds = new Map(open.map((hold) => [hold.requestId, hold]));
    const book: Book = { tenant, standing, holds, keys: new Map(), rules: new Map(), meters: new Map() };
    if (standing) this.#kept.set(tenant, book);
    return book;
  }

  /** If there is one. */
  peek(tenant: string): Book | undefined {
    return this.#kept.peek(tenant);
  }

  /** Its rows were changed by other means than its book. */
  drop(tenant: string): void {
    this.#kept.delete(tenant);
  }

  /** The same of all tenants. */
  dropAll(): void {
    this.#kept.clear();
  }

  #ended(done: boolean): void {
    if (!done) for (const tenant of this.#touched) this.#kept.delete(tenant);
    this.#touched.clear();
  }
}

function standingOf(row: Row): Standing {
  return { archived: int(row, 'archived') !== 0, models: modelList(textOrNull(row, 'models')) };
}

function isFull({ keys, rules, meters }: Book): boolean {
  return keys.size > MAX_BOOK_KEYS || rules.size > MAX_BOOK_KEYS || meters.size > MAX_BOOK_METERS;
}
