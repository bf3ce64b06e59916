// Which entries are a tenant's. One tree for all would cost each settlement the page where its tenant's entries stand, which it shares with
// nobody's request: of many tenants, each commit and each checkpoint would write that page for each request. So the index is written in sorted
// runs, as log-structured merge trees write theirs (O'Neil et al., 1996), but for the merging, since runs that lie outside a window are passed over:
//
//   sequence   1 ───────────────────┬──────────────────────┬──────────────────────┬─── newest
//                 runs, counted     │   a run, uncounted   │        fresh         │
//                 (run, tenant, reserved)                  │   by no index yet    │
//                                   └── late: in memory, by tenant; read again at a start ──┘
//
// What else a settlement moves of its tenant's follows the runs as well (sqlMeters.ts): counters are rows that count entries through a sequence that
// they name, and behind a new run they are brought up to date, a few at a time in its order. Until then late entries are added to what a row says.
//   1. Each entry is in one run or fresh.
//   2. What a row does not count of its window is late.
import { int, type Sql, type Statement, text } from '../sql.ts';
import { LateEntries, type LateEntry } from './lateEntries.ts';

/** A run of so many is written within some 60 ms, in which nothing else is done; up to twice as many are read at a start. */
export const ENTRIES_PER_RUN = 32_768;

/** Tenants of an uncounted run that are looked up at once. */
const TENANTS_AT_ONCE = 64;

/** A table `found (sequence)`: a tenant's entries (?1) in runs that were reserved from ?2 until before ?3. */
export const FOUND = `found (sequence) AS (
  SELECT sequence FROM entry_runs CROSS JOIN indexed_entries USING (run)
  WHERE latest_ms >= ?2 AND earliest_ms < ?3 AND tenant = ?1 AND reserved_ms >= ?2 AND reserved_ms < ?3
)`;

/** A query of the sequences of `most` of a tenant's (?1) newest entries, those that are given (?2) first, in so many runs. */
export function recentEntries(runs: number, most: number): string {
  return `SELECT value AS sequence FROM json_each(?2) UNION ALL
    SELECT * FROM (SELECT sequence FROM entry_runs CROSS JOIN indexed_entries USING (run)
      WHERE run > (SELECT max(run) FROM entry_runs) - ${runs} AND tenant = ?1 ORDER BY run DESC, reserved_ms DESC LIMIT ${most})
    LIMIT ${most}`;
}

/** A tenant's key that has entries in the uncounted run, which its meters do not count yet. */
export interface LateKey {
  tenant: string;
  keyId: string;
  /** It stands for its tenant as well. */
  first: boolean;
}

interface Late {
  /** Of the run that is uncounted. */
  uncounted: LateEntries;
  /** Its number; null: none is. */
  run: number | null;
  /** Tenants of it up to this one have been looked up. */
  lookedUp: string;
  /** What of them has not been given out. */
  queue: LateKey[];
  fresh: LateEntries;
  newest: number;
}

export class EntryRuns {
  readonly #entriesPerRun: number;
  readonly #last: Statement;
  readonly #uncounted: Statement;
  readonly #newest: Statement;
  readonly #between: Statement;
  readonly #write: Statement;
  readonly #close: Statement;
  readonly #tenants: Statement;
  readonly #counted: Statement;
  /** null: not read yet. */
  #kept: Late | null = null;
  /** Whose entries were added in this transaction. */
  #added: string[] = [];
  /** In this transaction more was changed than that. */
  #moved = false;

  constructor(db: Sql, entriesPerRun: number) {
    this.#entriesPerRun = entriesPerRun;
    this.#last = db.prepare(
      'SELECT coalesce(max(run), 0) AS run, coalesce(max(through), 0) AS through FROM entry_runs',
    );
    this.#uncounted = db.prepare('SELECT run, first, through FROM entry_runs WHERE NOT counted');
    this.#newest = db.prepare('SELECT coalesce(max(sequence), 0) AS newest FROM entries');
    this.#between = db.prepare(
      `SELECT sequence, tenant, key_id, model, input + output AS tokens, cost_nano, reserved_ms, booked_second
       FROM entries WHERE sequence BETWEEN ? AND ? ORDER BY sequence`,
    );
    this.#write = db.prepare(
      `INSERT INTO indexed_entries (run, tenant, reserved_ms, sequence)
       SELECT ?, tenant, reserved_ms, sequence FROM entries WHERE sequence > ? ORDER BY tenant, reserved_ms, sequence`,
    );
    this.#close = db.prepare(
      `INSERT INTO entry_runs (run, first, through, earliest_ms, latest_ms, counted)
       SELECT ?1, ?2 + 1, max(sequence), min(reserved_ms), max(reserved_ms), 0 FROM entries WHERE sequence > ?2`,
    );
    this.#tenants = db.prepare(
      'SELECT DISTINCT tenant FROM indexed_entries WHERE run = ? AND tenant > ? ORDER BY tenant LIMIT ?',
    );
    this.#counted = db.prepare('UPDATE entry_runs SET counted = 1 WHERE run = ?');
    db.onEnd((done) => this.#ended(done));
  }

  /** No entry that will come is at or before this sequence, and none that is there behind it. Inside a transaction, as all that follows. */
  get newest(): number {
    return this.#read().newest;
  }

  /** What was just made, its sequence being one more than the newest. */
  add(tenant: string, entry: LateEntry): void {
    const late = this.#read();
    late.fresh.add(tenant, entry);
    late.newest = entry.sequence;
    this.#added.push(tenant);
  }

  /** A key's entries, or a tenant's, that are in no run. */
  fresh(tenant: string, keyId: string | null): readonly LateEntry[] {
    return this.#read().fresh.of(tenant, keyId);
  }

  /** In two lists, the later ones second. */
  late(tenant: string, keyId: string | null): readonly (readonly LateEntry[])[] {
    const { uncounted, fresh } = this.#read();
    return [uncounted.of(tenant, keyId), fresh.of(tenant, keyId)];
  }

  /** A tenant's late entries in other seconds, as their rows are changed. */
  rebook(tenant: string, secondOf: (entry: LateEntry) => number): void {
    this.#moved = true;
    for (const entries of this.late(tenant, null)) for (const entry of entries) entry.second = secondOf(entry);
  }

  /** There is a run to be written or counted, as far as is known. */
  get isBehind(): boolean {
    return this.#kept === null || this.#kept.run !== null || this.#isDue(this.#kept);
  }

  /** Writes the next run, if it is time and the one before is counted. */
  writeIfDue(): void {
    const late = this.#read();
    if (late.run !== null || !this.#isDue(late)) return;
    const last = this.#last.get();
    const [run, through] = [int(last, 'run') + 1, int(last, 'through')];
    this.#write.run(run, through);
    this.#close.run(run, through);
    this.#moved = true;
    this.#kept = { ...late, uncounted: late.fresh, run, fresh: new LateEntries() };
  }

  /** Whose meters are next to count the uncounted run; who asks again has counted them. null: all have. */
  next(): LateKey | null {
    const late = this.#read();
    if (late.run === null) return null;
    this.#moved = true;
    if (late.queue.length === 0) this.#lookUp(late, late.run);
    const next = late.queue.shift();
    if (next) return next;
    this.#counted.run(late.run);
    this.#kept = { ...late, uncounted: new LateEntries(), run: null, lookedUp: '' };
    return null;
  }

  #lookUp(late: Late, run: number): void {
    for (const row of this.#tenants.all(run, late.lookedUp, TENANTS_AT_ONCE)) {
      const tenant = text(row, 'tenant');
      late.lookedUp = tenant;
      const keys = new Set(late.uncounted.of(tenant, null).map((entry) => entry.keyId));
      for (const [i, keyId] of [...keys].entries()) late.queue.push({ tenant, keyId, first: i === 0 });
    }
  }

  #isDue({ fresh }: Late): boolean {
    return fresh.count >= this.#entriesPerRun;
  }

  #read(): Late {
    if (this.#kept) return this.#kept;
    const uncounted = this.#uncounted.get();
    const newest = int(this.#newest.get(), 'newest');
    this.#kept = {
      uncounted: uncounted ? this.#entries(int(uncounted, 'first'), int(uncounted, 'through')) : new LateEntries(),
      run: uncounted ? int(uncounted, 'run') : null,
      ...{ lookedUp: '', queue: [], fresh: this.#entries(int(this.#last.get(), 'through') + 1, newest), newest },
    };
    return this.#kept;
  }

  #entries(first: number, last: number): LateEntries {
    const entries = new LateEntries();
    for (const row of this.#between.all(first, last))
      entries.add(text(row, 'tenant'), {
        ...{ sequence: int(row, 'sequence'), keyId: text(row, 'key_id'), model: text(row, 'model') },
        ...{ tokens: int(row, 'tokens'), spend: int(row, 'cost_nano') },
        ...{ reservedAtMs: int(row, 'reserved_ms'), second: int(row, 'booked_second') },
      });
    return entries;
  }

  #ended(done: boolean): void {
    if (!done && this.#moved) this.#kept = null;
    else if (!done && this.#kept)
      for (const tenant of this.#added.reverse()) {
        const entry = this.#kept.fresh.takeBack(tenant);
        if (entry) this.#kept.newest = entry.sequence - 1;
      }
    this.#added = [];
    this.#moved = false;
  }
}
