// Which entries are a tenant's. One tree for all would cost each settlement the page where its tenant's entries stand, which it shares with
// nobody's request: of many tenants, each commit and each checkpoint would write that page for each request. So the index is written in sorted
// runs, as log-structured merge trees write theirs (O'Neil et al., 1996), but for the merging, since runs that lie outside a window are passed over:
//
//   sequence   1 ───────────────────┬──────────────────────┬──────────────────────┬─── newest
//                 runs, counted     │   a run, uncounted   │        fresh         │
//                 (run, tenant, reserved)                  │   by no index yet    │
//                                   └── late: in memory, by tenant; read again at a start ──┘
//
// Counters of limits are rows whose page is a tenant's own just as well, and they follow the runs: a row counts entries through a sequence that
// it names, and behind a new run, a few tenants at a time in its order, all rows are brought up to date (sqlMeters.ts). Until then a
// tenant's late entries are added to what its row says. So
//   1. each entry is in one run or fresh;
//   2. what a row does not count of its window is late.
import { int, type Sql, type Statement, text } from '../sql.ts';

/** A run of so many is written within some 60 ms, in which nothing else is done; twice as many are read at a start. */
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

/** A tenant with entries in a run that its meters do not count yet. */
export interface LateTenant {
  tenant: string;
  /** When the earliest of them was reserved. */
  earliestMs: number;
}

/** What of the entries is in memory. */
interface Late {
  /** Of the run that is uncounted, by tenant, ascending. */
  uncounted: Map<string, number[]>;
  /** Its number; null: none is. */
  run: number | null;
  /** Tenants up to this one have been given out. */
  counted: string;
  /** By tenant, ascending. */
  fresh: Map<string, number[]>;
  freshCount: number;
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
  readonly #next: Statement;
  readonly #counted: Statement;
  readonly #since: Statement;
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
    this.#between = db.prepare('SELECT sequence, tenant FROM entries WHERE sequence BETWEEN ? AND ? ORDER BY sequence');
    this.#write = db.prepare(
      `INSERT INTO indexed_entries (run, tenant, reserved_ms, sequence)
       SELECT ?, tenant, reserved_ms, sequence FROM entries WHERE sequence > ? ORDER BY tenant, reserved_ms, sequence`,
    );
    this.#close = db.prepare(
      `INSERT INTO entry_runs (run, first, through, earliest_ms, latest_ms, counted)
       SELECT ?1, ?2 + 1, max(sequence), min(reserved_ms), max(reserved_ms), 0 FROM entries WHERE sequence > ?2`,
    );
    this.#next = db.prepare(
      `SELECT tenant, min(reserved_ms) AS earliest_ms FROM indexed_entries WHERE run = ? AND tenant > ?
       GROUP BY tenant ORDER BY tenant LIMIT ?`,
    );
    this.#counted = db.prepare('UPDATE entry_runs SET counted = 1 WHERE run = ?');
    this.#since = db.prepare('SELECT first, through FROM entry_runs WHERE latest_ms >= ?');
    db.onEnd((done) => this.#ended(done));
  }

  /** Inside the transaction that made the entry, the sequence being one more than what was the newest. */
  add(tenant: string, sequence: number): void {
    this.#added.push(tenant);
    const late = this.#read();
    append(late.fresh, tenant, sequence);
    late.freshCount++;
    late.newest = sequence;
    if (late.freshCount >= this.#entriesPerRun && late.run === null) this.#writeRun();
  }

  /** Inside a transaction, as all that follows: the last `most` of a tenant's fresh entries, for `FOUND`. */
  fresh(tenant: string, most = Number.POSITIVE_INFINITY): string {
    const own = this.#read().fresh.get(tenant) ?? [];
    return JSON.stringify(own.length > most ? own.slice(-most) : own);
  }

  /** A tenant's late entries behind a sequence, in the same way; null without any. */
  late(tenant: string, through: number): string | null {
    const { uncounted, fresh } = this.#read();
    const own = [...(uncounted.get(tenant) ?? []), ...(fresh.get(tenant) ?? [])].filter((one) => one > through);
    return own.length === 0 ? null : JSON.stringify(own);
  }

  /** No entry that will come is at or before this sequence, and none that is there behind it. */
  get newest(): number {
    return this.#read().newest;
  }

  /** The next tenants of the uncounted run, `most` of them: `count` makes their meters count all their late entries. */
  follow(most: number, count: (late: LateTenant) => void): void {
    const late = this.#read();
    if (late.run === null) return;
    this.#moved = true;
    const rows = this.#next.all(late.run, late.counted, most);
    for (const row of rows) {
      late.counted = text(row, 'tenant');
      count({ tenant: late.counted, earliestMs: int(row, 'earliest_ms') });
    }
    if (rows.length === most) return;
    this.#counted.run(late.run);
    this.#kept = { ...late, uncounted: new Map(), run: null, counted: '' };
  }

  /** Ranges with all entries that were reserved at `fromMs` or later, and others. */
  since(fromMs: number): SequenceRange[] {
    const runs = this.#since.all(fromMs).map((row) => ({ first: int(row, 'first'), last: int(row, 'through') }));
    return [...runs, { first: int(this.#last.get(), 'through') + 1, last: Number.MAX_SAFE_INTEGER }];
  }

  #read(): Late {
    if (this.#kept) return this.#kept;
    const uncounted = this.#uncounted.get();
    const newest = int(this.#newest.get(), 'newest');
    const fresh = this.#tenantsOf(int(this.#last.get(), 'through') + 1, newest);
    this.#kept = {
      uncounted: uncounted ? this.#tenantsOf(int(uncounted, 'first'), int(uncounted, 'through')) : new Map(),
      run: uncounted ? int(uncounted, 'run') : null,
      ...{ counted: '', fresh, newest, freshCount: [...fresh.values()].reduce((sum, own) => sum + own.length, 0) },
    };
    return this.#kept;
  }

  #tenantsOf(first: number, last: number): Map<string, number[]> {
    const tenants = new Map<string, number[]>();
    for (const row of this.#between.all(first, last)) append(tenants, text(row, 'tenant'), int(row, 'sequence'));
    return tenants;
  }

  #writeRun(): void {
    const { fresh, newest } = this.#read();
    const last = this.#last.get();
    const [run, through] = [int(last, 'run') + 1, int(last, 'through')];
    this.#write.run(run, through);
    this.#close.run(run, through);
    this.#moved = true;
    this.#kept = { ...{ uncounted: fresh, run, counted: '', newest }, ...{ fresh: new Map(), freshCount: 0 } };
  }

  #ended(done: boolean): void {
    if (!done && this.#moved) this.#kept = null;
    else if (!done && this.#kept) for (const tenant of this.#added.reverse()) takeBack(this.#kept, tenant);
    this.#added = [];
    this.#moved = false;
  }
}

function append(tenants: Map<string, number[]>, tenant: string, sequence: number): void {
  const own = tenants.get(tenant);
  if (own) own.push(sequence);
  else tenants.set(tenant, [sequence]);
}

function takeBack(late: Late, tenant: string): void {
  const sequence = late.fresh.get(tenant)?.pop();
  if (sequence === undefined) return;
  late.freshCount--;
  late.newest = sequence - 1;
}
