// The counters of limits per window. They are counted in memory: what is held follows from the holds that are open, and what is settled from a row
// and the entries that came after it (entryRuns.ts), which it is brought up to date with now and then. The row is made from the sum of all
// entries when its window is first asked for. A sliding minute is one row with its ring.
import type { Price } from '../prices/price.ts';
import { bytesOrNull, int, intOrNull, type Row, type Sql, type Statement } from '../sql.ts';
import type { Book, WindowMeter } from './books.ts';
import type { HoldBounds, Meter } from './decide.ts';
import type { EntryRuns, LateKey } from './entryRuns.ts';
import type { LateEntry } from './lateEntries.ts';
import { amountOf, countsFor, countsUnder, type KeptRule, type LimitState, type Metric, unitsOf } from './limits.ts';
import { book as booked, decodeRing, emptyAtMs, encodeRing, type MinuteRing, slide, totals } from './minuteWindow.ts';
import { heldOf } from './sqlRows.ts';
import type { SqlRules, StoredRule } from './sqlRules.ts';
import { bySecond, SqlSums } from './sqlSums.ts';
import { type Window, windowAt } from './windows.ts';

/** A closed window's row is kept so long, for clocks that go back over its end; after that it would be made anew from the sums. */
const KEEP_CLOSED_WINDOWS_MS = 2 * 86_400_000;
/** Of one rule in memory: the open one, and those that requests which still run were booked in. */
const MAX_WINDOWS = 3;

/** A limit in the window that is open now, with what counts there. */
export interface LimitMeter extends Meter, LimitState {
  /** Of a sliding minute, as it counts now. */
  ring: MinuteRing | null;
  /** What it shows. */
  source: WindowMeter;
}

/** Whose request it is, and when it was or would be reserved. */
export interface Booking {
  keyId: string;
  model: string;
  atMs: number;
  /** In minutes' rings (minuteWindow.ts). */
  second: number;
}

type Instant = Pick<Booking, 'atMs' | 'second'>;
/** A meter as its row has it. */
type Settled = Omit<WindowMeter, 'held'>;
type Change = Pick<WindowMeter, 'settled' | 'held'>;

export class SqlMeters {
  readonly #rules: SqlRules;
  readonly #runs: EntryRuns;
  readonly #sums: SqlSums;
  readonly #select: Statement;
  readonly #selectBehind: Statement;
  readonly #insert: Statement;
  readonly #update: Statement;
  readonly #prune: Statement;
  readonly #deleteMinutes: Statement;

  constructor(db: Sql, rules: SqlRules, runs: EntryRuns) {
    this.#rules = rules;
    this.#runs = runs;
    this.#sums = new SqlSums(db, runs);
    this.#select = db.prepare(
      `SELECT start_ms, end_ms, settled, ring, through FROM meters
       WHERE tenant = ?1 AND limit_id = ?2 AND start_ms <= ?3 AND (end_ms IS NULL OR end_ms > ?3)`,
    );
    this.#selectBehind = db.prepare(
      `SELECT start_ms, end_ms, settled, ring, through FROM meters
       WHERE tenant = ? AND limit_id = ? AND through < ? AND (end_ms IS NULL OR end_ms > ?)`,
    );
    this.#insert = db.prepare(
      'INSERT INTO meters (tenant, limit_id, start_ms, end_ms, settled, ring, through) VALUES (?, ?, ?, ?, ?, ?, ?)',
    );
    this.#update = db.prepare(
      'UPDATE meters SET settled = ?, ring = ?, through = ? WHERE tenant = ? AND limit_id = ? AND start_ms = ?',
    );
    this.#deleteMinutes = db.prepare('DELETE FROM meters WHERE tenant = ? AND ring IS NOT NULL');
    this.#prune = db.prepare('DELETE FROM meters WHERE tenant = ? AND limit_id = ? AND end_ms < ?');
  }

  /** The meters that a request would be booked in. */
  open(book: Book, booking: Booking, price: Price | null): LimitMeter[] {
    return this.#counting(book, booking).map((rule) =>
      limitMeter(rule, this.#opened(book, rule, booking), booking.atMs, price),
    );
  }

  /** The limits of a key and its tenant, or of all keys. */
  list(book: Book, keyId: string | null, at: Instant): LimitState[] {
    const rules = keyId === null ? this.#rules.all(book.tenant) : this.#rules.of(book, keyId);
    return rules.map((rule) => stateOf(rule, this.#opened(book, rule, at), at.atMs));
  }

  /** Books a reservation in meters that were just opened for it; as they are after it. */
  hold(meters: readonly LimitMeter[], { second, atMs }: Booking, hold: HoldBounds): LimitState[] {
    return meters.map((meter) => {
      const held = amountOf(meter.units, hold.inputTokens, hold.outputTokens);
      add(meter.source, second, { settled: 0, held });
      return stateOf(meter, meter.source, atMs);
    });
  }

  /**
   * Moves the meters of the windows that a hold was booked in, before its entry or its hold in the book is changed. They are moved in memory: one
   * that isn't there, or has no row, is made later from what is then true.
   */
  move(book: Book, booking: Booking, change: (metric: Metric) => Change): void {
    for (const rule of this.#counting(book, booking)) {
      const meter = keptAt(book, rule, booking);
      if (meter) add(meter, booking.second, change(rule.metric));
    }
  }

  /** Brings the rows of a late key, and of its tenant, up to date; how many. `book`: the tenant's, if there is one. */
  count({ tenant, keyId, first }: LateKey, book: Book | undefined): number {
    const rules = this.#rules.stored(tenant, keyId).filter((rule) => first || rule.keyId !== null);
    let rows = 0;
    for (const [owner, own] of Map.groupBy(rules, (rule) => rule.keyId)) {
      const [uncounted = []] = this.#runs.late(tenant, owner);
      const behind = [uncounted.at(-1)?.sequence ?? 0, earliestOf(uncounted)];
      for (const rule of own)
        for (const row of this.#selectBehind.all(tenant, rule.id, ...behind)) {
          const startMs = int(row, 'start_ms');
          const kept = book?.meters.get(rule.id)?.find((meter) => meter.startMs === startMs);
          const { settled, ring } = kept ?? this.#settled(row, tenant, rule, 0);
          this.#update.run(settled, ring && encodeRing(ring), this.#runs.newest, tenant, rule.id, startMs);
          rows++;
        }
    }
    return rows;
  }

  /** The clock was set back: minutes are made anew from the rows. A ring may have lost what counts again. */
  forgetMinutes(tenant: string): void {
    this.#deleteMinutes.run(tenant);
  }

  #counting(book: Book, { keyId, model }: Booking): StoredRule[] {
    return this.#rules.of(book, keyId).filter((rule) => countsFor(rule, model));
  }

  #opened(book: Book, rule: StoredRule, at: Instant): WindowMeter {
    const meter = this.#found(book, rule, at) ?? this.#make(book, rule, at);
    if (meter.ring) count(meter, slide(meter.ring, at.second));
    return meter;
  }

  /** The meter of the window that holds this instant; undefined where nobody has asked for it yet. */
  #found(book: Book, rule: StoredRule, at: Instant): WindowMeter | undefined {
    const kept = keptAt(book, rule, at);
    if (kept) return kept;
    const row = this.#select.get(book.tenant, rule.id, at.atMs);
    return row && keep(book, rule, this.#withHeld(this.#settled(row, book.tenant, rule, latestOf(book)), book, rule));
  }

  #make(book: Book, rule: StoredRule, { atMs, second }: Instant): WindowMeter {
    const { tenant } = book;
    const made = this.#sum(tenant, rule, atMs, second);
    const { startMs, endMs, settled, ring } = made;
    this.#insert.run(tenant, rule.id, startMs, endMs, settled, ring && encodeRing(ring), this.#runs.newest);
    if (endMs !== null) this.#prune.run(tenant, rule.id, startMs - KEEP_CLOSED_WINDOWS_MS);
    return keep(book, rule, this.#withHeld(made, book, rule));
  }

  #sum(tenant: string, rule: StoredRule, atMs: number, second: number): Settled {
    if (rule.window === 'minute') return minuteOf(this.#sums.minute(tenant, rule, second));
    const window = windowAt(rule.window === 'none' ? 'lifetime' : rule.window, rule.timeZone, atMs);
    return { ...window, settled: this.#sums.window(tenant, rule, window), ring: null };
  }

  /** What a row says, and what is late for it. */
  #settled(row: Row, tenant: string, rule: StoredRule, second: number): Settled {
    const stored = bytesOrNull(row, 'ring');
    const through = int(row, 'through');
    if (stored) return minuteOf(this.#sums.minuteWithLate(tenant, rule, decodeRing(stored), through, second));
    const window = { startMs: int(row, 'start_ms'), endMs: intOrNull(row, 'end_ms') };
    const settled = this.#sums.windowWithLate(tenant, rule, window, int(row, 'settled'), through);
    return { ...window, settled, ring: null };
  }

  #withHeld(meter: Settled, book: Book, rule: StoredRule): WindowMeter {
    if (!meter.ring) return { ...meter, held: heldIn(meter, book, rule) };
    const held = holdsUnder(book, rule).map((hold) => ({
      second: hold.second,
      settled: 0,
      held: heldOf(hold, rule.metric),
    }));
    const counting = held.filter((bucket) => bucket.held > 0);
    const ring = slide(bySecond(meter.ring, counting), latestOf(book));
    return { startMs: 0, endMs: null, ...totals(ring), ring };
  }
}

function minuteOf(ring: MinuteRing): Settled {
  return { startMs: 0, endMs: null, settled: totals(ring).settled, ring };
}

function latestOf({ standing }: Book): number {
  return standing?.latestSecond ?? 0;
}

function earliestOf(entries: readonly LateEntry[]): number {
  return entries.reduce((earliest, { reservedAtMs }) => Math.min(earliest, reservedAtMs), Number.MAX_SAFE_INTEGER);
}

/** In memory. */
function keptAt(book: Book, rule: StoredRule, { atMs }: Pick<Instant, 'atMs'>): WindowMeter | undefined {
  return book.meters.get(rule.id)?.find(({ startMs, endMs }) => startMs <= atMs && (endMs === null || atMs < endMs));
}

function keep(book: Book, rule: StoredRule, meter: WindowMeter): WindowMeter {
  const windows = book.meters.get(rule.id) ?? [];
  if (windows.length === 0) book.meters.set(rule.id, windows);
  if (windows.length === MAX_WINDOWS) windows.shift();
  windows.push(meter);
  book.grown = true;
  return meter;
}

function heldIn({ startMs, endMs }: Window, book: Book, rule: StoredRule): number {
  return holdsUnder(book, rule)
    .filter(({ reservedAtMs }) => startMs <= reservedAtMs && (endMs === null || reservedAtMs < endMs))
    .reduce((sum, hold) => sum + heldOf(hold, rule.metric), 0);
}

function holdsUnder({ holds }: Book, rule: StoredRule) {
  return [...holds.values()].filter((hold) => countsUnder(rule, hold));
}

function add(meter: WindowMeter, second: number, { settled, held }: Change): void {
  if (meter.ring) {
    count(meter, booked(meter.ring, second, { settled, held }));
    return;
  }
  meter.settled += settled;
  meter.held += held;
}

function count(meter: WindowMeter, ring: MinuteRing): void {
  const { settled, held } = totals(ring);
  meter.settled = settled;
  meter.held = held;
  meter.ring = ring;
}

function limitMeter(rule: StoredRule, source: WindowMeter, atMs: number, price: Price | null): LimitMeter {
  return { ...stateOf(rule, source, atMs), units: unitsOf(rule.metric, price), ring: source.ring, source };
}

/** The rule with its counters as they are now. */
export function stateOf(rule: KeptRule, { settled, held, ring, endMs }: WindowMeter, atMs: number): LimitState {
  const { set, keyId, metric, window, limit, models, timeZone } = rule;
  const resetsAtMs = ring ? emptyAtMs(ring, atMs) : endMs;
  return { set, keyId, metric, window, limit, models, timeZone, settled, held, resetsAtMs };
}
