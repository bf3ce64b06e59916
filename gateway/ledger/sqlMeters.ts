// The counters of limits per window, as rows that can always be recomputed from entries and holds: a window's row is made from their sums
// when it is first asked for, and moved along by every reservation and settlement after that. A sliding minute is one row with its ring.
import type { Price } from '../prices/price.ts';
import { bytesOrNull, int, intOrNull, type Row, type Sql, type Statement, text, textOrNull } from '../sql.ts';
import type { HoldBounds, Meter } from './decide.ts';
import { amountOf, countsFor, type LimitState, type Metric, unitsOf } from './limits.ts';
import { book, decodeRing, emptyAtMs, encodeRing, type MinuteRing, slide, totals } from './minuteWindow.ts';
import { metricOf, modelList, ruleOf } from './sqlRules.ts';
import { SqlSums } from './sqlSums.ts';
import { windowAt } from './windows.ts';

/** A closed window's row is kept so long, for clocks that go back over its end; after that it would be made anew from the sums. */
const KEEP_CLOSED_WINDOWS_MS = 2 * 86_400_000;

/** A meter with the limit that it counts for. */
export interface LimitMeter extends Meter, LimitState {
  id: string;
  startMs: number;
  /** Of a sliding minute, as it counts now. */
  ring: MinuteRing | null;
}

/** Whose request it is, and when it was or would be reserved. */
export interface Booking {
  tenant: string;
  keyId: string;
  model: string;
  atMs: number;
  /** In minutes' rings (minuteWindow.ts). */
  second: number;
}

const OPEN_WINDOW = `LEFT JOIN meters ON meters.tenant = limits.tenant AND meters.limit_id = limits.id
  AND meters.start_ms <= ?2 AND (meters.end_ms IS NULL OR meters.end_ms > ?2)`;
const ORDER = 'ORDER BY key_id, set_name, position';

export class SqlMeters {
  readonly #db: Sql;
  readonly #selectFor: Statement;
  readonly #selectAll: Statement;
  readonly #selectBooked: Statement;
  readonly #insert: Statement;
  readonly #update: Statement;
  readonly #prune: Statement;
  readonly #sums: SqlSums;

  constructor(db: Sql) {
    this.#db = db;
    this.#sums = new SqlSums(db);
    const columns = 'limits.*, meters.start_ms, meters.end_ms, meters.settled, meters.held, meters.ring';
    const ofKey = `FROM limits ${OPEN_WINDOW} WHERE limits.tenant = ?1 AND limits.key_id IN ('', ?3)`;
    this.#selectFor = db.prepare(`SELECT ${columns} ${ofKey} ${ORDER}`);
    this.#selectBooked = db.prepare(
      `SELECT limits.id, limits.metric, limits.models, meters.start_ms, meters.settled, meters.held, meters.ring ${ofKey} AND start_ms IS NOT NULL`,
    );
    this.#selectAll = db.prepare(`SELECT ${columns} FROM limits ${OPEN_WINDOW} WHERE limits.tenant = ?1 ${ORDER}`);
    this.#insert = db.prepare(
      'INSERT INTO meters (tenant, limit_id, start_ms, end_ms, settled, held, ring) VALUES (?, ?, ?, ?, ?, ?, ?)',
    );
    this.#update = db.prepare(
      'UPDATE meters SET settled = ?, held = ?, ring = ? WHERE tenant = ? AND limit_id = ? AND start_ms = ?',
    );
    this.#prune = db.prepare('DELETE FROM meters WHERE tenant = ? AND limit_id = ? AND end_ms < ?');
  }

  /** The meters that a request would be booked in. */
  open(booking: Booking, price: Price | null): LimitMeter[] {
    const { tenant, keyId, model, atMs } = booking;
    return this.#selectFor
      .all(tenant, atMs, keyId)
      .filter((row) => countsFor({ models: modelList(textOrNull(row, 'models')) }, model))
      .map((row) => this.#meterOf(row, booking, price) ?? this.#make(row, tenant, booking, price));
  }

  /** The meters of a key and its tenant, or of all keys. */
  list(tenant: string, keyId: string | null, atMs: number, second: number): LimitMeter[] {
    const rows = keyId === null ? this.#selectAll.all(tenant, atMs) : this.#selectFor.all(tenant, atMs, keyId);
    const at = { atMs, second };
    return rows.map((row) => this.#meterOf(row, at, null) ?? this.#make(row, tenant, at, null));
  }

  /** Books a reservation in meters that were just opened for it; as they are after it. */
  hold(meters: readonly LimitMeter[], { tenant, second, atMs }: Booking, hold: HoldBounds): LimitMeter[] {
    return meters.map((meter) => {
      const held = amountOf(meter.units, hold.inputTokens, hold.outputTokens);
      const ring = this.#write(tenant, meter, second, { settled: 0, held });
      const resetsAtMs = ring ? emptyAtMs(ring, atMs) : meter.resetsAtMs;
      return { ...meter, held: meter.held + held, ring, resetsAtMs };
    });
  }

  /** Moves the meters of the windows that a hold was booked in. A window without a row is made later, from what is then true. */
  move(booking: Booking, change: (metric: Metric) => { settled: number; held: number }): void {
    const { tenant, keyId, model, atMs } = booking;
    for (const row of this.#selectBooked.all(tenant, atMs, keyId)) {
      if (!countsFor({ models: modelList(textOrNull(row, 'models')) }, model)) continue;
      const moved = { id: text(row, 'id'), startMs: int(row, 'start_ms'), ring: ringOf(row) };
      const before = { settled: int(row, 'settled'), held: int(row, 'held') };
      this.#write(tenant, { ...moved, ...before }, booking.second, change(metricOf(row)));
    }
  }

  /** The clock was set back: minutes are made anew from the rows. A ring may have lost what counts again. */
  forgetMinutes(tenant: string): void {
    this.#db.prepare('DELETE FROM meters WHERE tenant = ? AND ring IS NOT NULL').run(tenant);
  }

  /** The ring after it. */
  #write(
    tenant: string,
    { id, startMs, ring: before, settled, held }: Pick<LimitMeter, 'id' | 'startMs' | 'ring' | 'settled' | 'held'>,
    second: number,
    change: { settled: number; held: number },
  ): MinuteRing | null {
    const ring = before && book(before, second, change);
    const after = ring ? totals(ring) : { settled: settled + change.settled, held: held + change.held };
    this.#update.run(after.settled, after.held, ring && encodeRing(ring), tenant, id, startMs);
    return ring;
  }

  /** The open window as its row tells it; undefined without a row. */
  #meterOf(row: Row, { atMs, second }: Pick<Booking, 'atMs' | 'second'>, price: Price | null): LimitMeter | undefined {
    if (row.start_ms === null) return undefined;
    const ring = ringOf(row);
    return meterFrom(row, ring && slide(ring, second), atMs, price);
  }

  #make(row: Row, tenant: string, { atMs, second }: Pick<Booking, 'atMs' | 'second'>, price: Price | null): LimitMeter {
    const rule = ruleOf(row);
    if (rule.window === 'minute') {
      const ring = this.#sums.minute(tenant, rule, second);
      const { settled, held } = totals(ring);
      this.#insert.run(tenant, rule.id, 0, null, settled, held, encodeRing(ring));
      return meterFrom({ ...row, start_ms: 0, end_ms: null, settled, held }, ring, atMs, price);
    }
    const window = windowAt(rule.window === 'none' ? 'lifetime' : rule.window, rule.timeZone, atMs);
    const { startMs, endMs } = window;
    const { settled, held } = this.#sums.window(tenant, rule, window);
    this.#insert.run(tenant, rule.id, startMs, endMs, settled, held, null);
    this.#prune.run(tenant, rule.id, startMs - KEEP_CLOSED_WINDOWS_MS);
    return meterFrom({ ...row, start_ms: startMs, end_ms: endMs, settled, held }, null, atMs, price);
  }
}

function ringOf(row: Row): MinuteRing | null {
  const bytes = bytesOrNull(row, 'ring');
  return bytes && decodeRing(bytes);
}

function meterFrom(row: Row, ring: MinuteRing | null, atMs: number, price: Price | null): LimitMeter {
  const rule = ruleOf(row);
  const { settled, held } = ring ? totals(ring) : { settled: int(row, 'settled'), held: int(row, 'held') };
  const resetsAtMs = ring ? emptyAtMs(ring, atMs) : intOrNull(row, 'end_ms');
  return {
    ...rule,
    settled,
    held,
    resetsAtMs,
    units: unitsOf(rule.metric, price),
    startMs: int(row, 'start_ms'),
    ring,
  };
}
