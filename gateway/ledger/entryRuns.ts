// Which entries are a tenant's. One tree for all would cost each settlement the page where its tenant's entries stand, which it shares with
// nobody's request: of many tenants, each commit and each checkpoint would write that page for each request. So the index is written in sorted
// runs, as log-structured merge trees write theirs (O'Neil et al., 1996), but for the merging, since runs that lie outside a window are passed over:
//
//   sequence   1 ─────────────────┬────────────────── through ┬─── newest
//                run 1            │   run 2                   │   fresh: in memory, by tenant, and read again at a start
//                (tenant, reserved) (tenant, reserved)        │
import { int, type Sql, type Statement, text } from '../sql.ts';

/** A run of so many is written within some 60 ms, in which nothing else is done; as many are read at a start. */
export const ENTRIES_PER_RUN = 32_768;

/**
 * A table `found (sequence)`: a tenant's entries (?1) that were reserved from ?2 until before ?3, and all of its fresh ones (?4, as `fresh`
 * gives them), whenever they were reserved.
 */
export const FOUND = `found (sequence) AS (
  SELECT sequence FROM entry_runs CROSS JOIN indexed_entries USING (run)
  WHERE latest_ms >= ?2 AND earliest_ms < ?3 AND tenant = ?1 AND reserved_ms >= ?2 AND reserved_ms < ?3
  UNION ALL SELECT value FROM json_each(?4)
)`;

/** A query of the sequences of `most` of a tenant's (?1) newest entries, those that are fresh (?2) first, in so many runs. */
export function recentEntries(runs: number, most: number): string {
  return `SELECT value AS sequence FROM json_each(?2) UNION ALL
    SELECT * FROM (SELECT sequence FROM entry_runs CROSS JOIN indexed_entries USING (run)
      WHERE run > (SELECT max(run) FROM entry_runs) - ${runs} AND tenant = ?1 ORDER BY run DESC, reserved_ms DESC LIMIT ${most})
    LIMIT ${most}`;
}

/** Sequences, both of them among it. */
export interface SequenceRange {
  first: number;
  last: number;
}

export class EntryRuns {
  readonly #entriesPerRun: number;
  readonly #through: Statement;
  readonly #newest: Statement;
  readonly #select: Statement;
  readonly #write: Statement;
  readonly #close: Statement;
  readonly #since: Statement;
  /** By tenant, ascending; null: not read yet. */
  #fresh: Map<string, number[]> | null = null;
  #count = 0;
  /** Whose were added in this transaction. */
  #added: string[] = [];
  /** A run was, in this transaction. */
  #written = false;

  constructor(db: Sql, entriesPerRun: number) {
    this.#entriesPerRun = entriesPerRun;
    this.#through = db.prepare(
      'SELECT coalesce(max(through), 0) AS through, coalesce(max(run), 0) AS run FROM entry_runs',
    );
    this.#newest = db.prepare('SELECT coalesce(max(sequence), 0) AS newest FROM entries');
    this.#select = db.prepare('SELECT sequence, tenant FROM entries WHERE sequence > ? ORDER BY sequence');
    this.#write = db.prepare(
      `INSERT INTO indexed_entries (run, tenant, reserved_ms, sequence)
       SELECT ?, tenant, reserved_ms, sequence FROM entries WHERE sequence > ? ORDER BY tenant, reserved_ms, sequence`,
    );
    this.#close = db.prepare(
      `INSERT INTO entry_runs (run, first, through, earliest_ms, latest_ms)
       SELECT ?1, ?2 + 1, max(sequence), min(reserved_ms), max(reserved_ms) FROM entries WHERE sequence > ?2`,
    );
    this.#since = db.prepare('SELECT first, through FROM entry_runs WHERE latest_ms >= ?');
    db.onEnd((done) => this.#ended(done));
  }

  /** Inside the transaction that made the entry. */
  add(tenant: string, sequence: number): void {
    this.#added.push(tenant);
    if (this.#fresh) this.#append(this.#fresh, tenant, sequence);
    else this.#read();
    if (this.#count >= this.#entriesPerRun) this.#writeRun();
  }

  /** Inside a transaction: the last `most` of a tenant's fresh entries, for `FOUND`. */
  fresh(tenant: string, most = Number.POSITIVE_INFINITY): string {
    const own = this.#read().get(tenant) ?? [];
    return JSON.stringify(own.length > most ? own.slice(-most) : own);
  }

  /** Inside a transaction: ranges with all entries that were reserved at `fromMs` or later, and others. */
  since(fromMs: number): SequenceRange[] {
    const runs = this.#since.all(fromMs).map((row) => ({ first: int(row, 'first'), last: int(row, 'through') }));
    return [...runs, { first: int(this.#through.get(), 'through') + 1, last: Number.MAX_SAFE_INTEGER }];
  }

  #read(): Map<string, number[]> {
    if (this.#fresh) return this.#fresh;
    const through = int(this.#through.get(), 'through');
    // Never so many, unless they were put there by other means.
    if (int(this.#newest.get(), 'newest') - through >= this.#entriesPerRun) return this.#writeRun();
    const fresh = this.#forget();
    for (const row of this.#select.all(through)) this.#append(fresh, text(row, 'tenant'), int(row, 'sequence'));
    return fresh;
  }

  #append(fresh: Map<string, number[]>, tenant: string, sequence: number): void {
    const own = fresh.get(tenant);
    if (own) own.push(sequence);
    else fresh.set(tenant, [sequence]);
    this.#count++;
  }

  #writeRun(): Map<string, number[]> {
    const last = this.#through.get();
    const [run, through] = [int(last, 'run') + 1, int(last, 'through')];
    this.#write.run(run, through);
    this.#close.run(run, through);
    this.#written = true;
    return this.#forget();
  }

  #forget(): Map<string, number[]> {
    this.#fresh = new Map();
    this.#count = 0;
    return this.#fresh;
  }

  #ended(done: boolean): void {
    if (!done && this.#written) this.#fresh = null;
    else if (!done && this.#fresh) {
      for (const tenant of this.#added) this.#fresh.get(tenant)?.pop();
      this.#count -= this.#added.length;
    }
    this.#added = [];
    this.#written = false;
  }
}
