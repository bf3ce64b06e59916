// What the ledger has in memory of tenants that ask often, so that a request reads nothing and writes only what is new: its hold, or its entry.
// All of a book stands in the database or follows from it, and goes with the process: what has changed past a book drops it, and so does a
// transaction that was undone.
//
//   book ── standing      archived, models, latest second
//        ├─ keys, rules   those that were asked for
//        ├─ holds         all that are open
//        └─ meters        of windows that were asked for: settled as stored and by late entries (entryRuns.ts), held as the holds say
import { LRUCache } from 'lru-cache';
import { int, type Row, type Sql, type Statement, textOrNull } from '../sql.ts';
import type { EntryRuns } from './entryRuns.ts';
import { newestOf } from './lateEntries.ts';
import type { MinuteRing } from './minuteWindow.ts';
import type { KeyRecord } from './port.ts';
import { type HeldRow, holdOf } from './sqlRows.ts';
import { modelList, type StoredRule } from './sqlRules.ts';

/** Of all books together, as `weightOf` estimates them, unless a host has room for more. */
export const BOOKS_BYTES = 32 * 1024 * 1024;
/** Of one book: a larger one is begun anew. */
const BOOK_BYTES = 4 * 1024 * 1024;

/** What the ledger knows of a tenant itself. */
export interface Standing {
  archived: boolean;
  models: readonly string[] | null;
  /** The latest second that the tenant's minutes were booked in. */
  latestSecond: number;
  /** The same as its row has it; later ones stand with holds and late entries. */
  storedSecond: number;
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
  /** Bytes, when it was last estimated. */
  weight: number;
  /** It has more keys, rules or meters since then. */
  grown: boolean;
}

export class Books {
  readonly #runs: EntryRuns;
  readonly #kept: LRUCache<string, Book>;
  readonly #standing: Statement;
  readonly #holds: Statement;
  /** Tenants whose books the transaction has had in hand. */
  readonly #touched = new Set<string>();

  constructor(db: Sql, runs: EntryRuns, bytes: number) {
    this.#runs = runs;
    this.#kept = new LRUCache({ maxSize: bytes });
    this.#standing = db.prepare('SELECT archived, models, latest_second FROM tenants WHERE id = ?');
    this.#holds = db.prepare('SELECT * FROM holds WHERE tenant = ? ORDER BY reserved_ms, request_id');
    db.onEnd((done) => this.#ended(done));
  }

  /** Inside a transaction. */
  of(tenant: string): Book {
    this.#touched.add(tenant);
    const kept = this.#kept.get(tenant);
    if (kept && kept.weight <= BOOK_BYTES) return kept;
    const row = this.#standing.get(tenant);
    const holds = this.#holds.all(tenant).map(holdOf);
    const book: Book = {
      tenant,
      standing: row ? this.#standingOf(tenant, row, holds) : null,
      holds: new Map(holds.map((hold) => [hold.requestId, hold])),
      ...{ keys: new Map(), rules: new Map(), meters: new Map(), weight: 0, grown: false },
    };
    book.weight = weightOf(book);
    if (row) this.#kept.set(tenant, book, { size: book.weight });
    return book;
  }

  /** If there is one; it is not remembered any longer for it. */
  peek(tenant: string): Book | undefined {
    this.#touched.add(tenant);
    return this.#kept.peek(tenant);
  }

  /** Its rows were changed by other means than its book. */
  drop(tenant: string): void {
    this.#kept.delete(tenant);
  }

  #standingOf(tenant: string, row: Row, holds: readonly HeldRow[]): Standing {
    const storedSecond = int(row, 'latest_second');
    const seconds = [...holds.map(({ second }) => second), ...this.#runs.late(tenant, null).map(newestOf)];
    return {
      archived: int(row, 'archived') !== 0,
      models: modelList(textOrNull(row, 'models')),
      latestSecond: seconds.reduce((latest, second) => Math.max(latest, second), storedSecond),
      storedSecond,
    };
  }

  #ended(done: boolean): void {
    for (const tenant of this.#touched)
      if (done) this.#weigh(tenant);
      else this.#kept.delete(tenant);
    this.#touched.clear();
  }

  #weigh(tenant: string): void {
    const book = this.#kept.peek(tenant);
    if (!book?.grown) return;
    book.weight = weightOf(book);
    book.grown = false;
    // An entry's size stays what it was as long as its value is the same.
    this.#kept.delete(tenant);
    this.#kept.set(tenant, book, { size: book.weight });
  }
}

/** Of a meter; one of a minute has a ring, of eight seconds here: it may be of one or of sixty-one. */
const METER_BYTES = 300;
const RING_BYTES = 8 * 72;

/**
 * Bytes, about, as the heap grew by books of few and of many limits; without holds, which are there whether they are remembered or not, and
 * are bounded by how many requests run.
 */
function weightOf({ keys, rules, meters }: Book): number {
  let weight = 1024 + 900 * keys.size;
  for (const own of rules.values()) weight += 64 + 300 * own.length;
  for (const windows of meters.values())
    for (const { ring } of windows) weight += METER_BYTES + (ring ? RING_BYTES : 0);
  return weight;
}
