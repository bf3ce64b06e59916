// The counters of limits per window. What is held follows from the holds that are open, and is counted in memory alone; what is settled
// is a row, which can always be recomputed from the entries: made from their sums when its window is first asked for, and moved along by every
// settlement after that. A sliding minute is one row with its ring.
import type { Price } from '../prices/price.ts';
import { bytesOrNull, int, intOrNull, type Row, type Sql, type Statement } from '../sql.ts';
import type { Book, WindowMeter } from './books.ts';
import type { HoldBounds, Meter } from './decide.ts';
import type { LedgerClock } from './ledgerClock.ts';
import { amountOf, countsFor, countsUnder, type KeptRule, type LimitState, type Metric, unitsOf } from './limits.ts';
import { book as booked, decodeRing, emptyAtMs, encodeRing, type MinuteRing, slide, totals } from './minuteWindow.ts';
import { heldOf } from './sqlRows.ts';
import type { SqlRules, StoredRule } from './sqlRules.ts';
import type { SqlSums } from './sqlSums.ts';
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
type Change = Pick<WindowMeter, 'settled' | 'held'>;

export class SqlMeters {
  readonly #db: Sql;
  readonly #rules: SqlRules;
  readonly #sums: SqlSums;
  readonly #clock: LedgerClock;
  readonly #select: Statement;
  readonly #insert: Statement;
  readonly #update: Statement;
  readonly #prune: Statement;

  constructor(db: Sql, rules: SqlRules, sums: SqlSums, clock: LedgerClock) {
    this.#db = db;
    this.#rules = rules;
    this.#sums = sums;
    this.#clock = clock;
    this.#select = db.prepare(
      `SELECT start_ms, end_ms, settled, ring FROM meters
       WHERE tenant = ?1 AND limit_id = ?2 AND start_ms <= ?3 AND (end_ms IS NULL OR end_ms > ?3)`,
    );
    this.#insert = db.prepare(
      'INSERT INTO meters (tenant, limit_id, start_ms, end_ms, settled, ring) VALUES (?, ?, ?, ?, ?, ?)',
    );
    this.#update = db.prepare(
      'UPDATE meters SET settled = ?, ring = ? WHERE tenant = ? AND limit_id = ? AND start_ms = ?',
    );
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
   * Moves the meters of the windows that a hold was booked in, before its row or its hold in the book is changed. A window without a row is
   * made later, from what is then true.
   */
  move(book: Book, booking: Booking, change: (metric: Metric) => Change): void {
    for (const rule of this.#counting(book, booking)) {
      const meter = this.#found(book, rule, booking);
      if (!meter) continue;
      const changed = change(rule.metric);
      add(meter, booking.second, changed);
      if (changed.settled !== 0)
        this.#update.run(meter.settled, meter.ring && encodeRing(meter.ring), book.tenant, rule.id, meter.startMs);
    }
  }

  /** The clock was set back: minutes are made anew from the rows. A ring may have lost what counts again. */
  forgetMinutes(): void {
    this.#db.prepare('DELETE FROM meters WHERE ring IS NOT NULL').run();
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
    const kept = book.meters
      .get(rule.id)
      ?.find(({ startMs, endMs }) => startMs <= at.atMs && (endMs === null || at.atMs < endMs));
    if (kept) return kept;
    const row = this.#select.get(book.tenant, rule.id, at.atMs);
    return row && keep(book, rule, this.#meterOf(row, book, rule));
  }

  #make(book: Book, rule: StoredRule, { atMs, second }: Instant): WindowMeter {
    const { tenant } = book;
    if (rule.window === 'minute') {
      const settled = this.#sums.minute(tenant, rule, second);
      this.#insert.run(tenant, rule.id, 0, null, totals(settled).settled, encodeRing(settled));
      return keep(book, rule, this.#minuteOf(settled, book, rule));
    }
    const window = windowAt(rule.window === 'none' ? 'lifetime' : rule.window, rule.timeZone, atMs);
    const settled = this.#sums.window(tenant, rule, window);
    this.#insert.run(tenant, rule.id, window.startMs, window.endMs, settled, null);
    this.#prune.run(tenant, rule.id, window.startMs - KEEP_CLOSED_WINDOWS_MS);
    return keep(book, rule, { ...window, settled, held: heldIn(window, book, rule), ring: null });
  }

  #meterOf(row: Row, book: Book, rule: StoredRule): WindowMeter {
    const ring = bytesOrNull(row, 'ring');
    if (ring) return this.#minuteOf(decodeRing(ring), book, rule);
    const window = { startMs: int(row, 'start_ms'), endMs: intOrNull(row, 'end_ms') };
    return { ...window, settled: int(row, 'settled'), held: heldIn(window, book, rule), ring: null };
  }

  #minuteOf(settled: MinuteRing, book: Book, rule: StoredRule): WindowMeter {
    const held = holdsUnder(book, rule).map((hold) => ({
      second: hold.second,
      settled: 0,
      held: heldOf(hold, rule.metric),
    }));
    const counting = held.filter((bucket) => bucket.held > 0);
    const bySecond = [...settled, ...counting].sort((a, b) => a.second - b.second);
    const ring = slide(bySecond, this.#clock.latest);
    return { startMs: 0, endMs: null, ...totals(ring), ring };
  }
}

function keep(book: Book, rule: StoredRule, meter: WindowMeter): WindowMeter {
  const windows = book.meters.get(rule.id) ?? [];
  if (windows.length === 0) book.meters.set(rule.id, windows);
  if (windows.length === MAX_WINDOWS) windows.shift();
  windows.push(meter);
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
