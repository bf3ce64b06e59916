// Rows of holds and entries as the port's values, and their statements.
import { invariant } from '../invariant.ts';
import type { Price } from '../prices/price.ts';
import { int, intOrNull, type Row, type Sql, type SqlValue, type Statement, text, textOrNull } from '../sql.ts';
import type { BilledOutcome, Released } from './bill.ts';
import { FOUND } from './entryRuns.ts';
import { amountOf, type Metric, unitsOf } from './limits.ts';
import type { Hold, LedgerEntry } from './port.ts';

export type LedgerStatements = Record<
  | 'insertHold'
  | 'selectHolds'
  | 'updateHold'
  | 'reroute'
  | 'deleteHold'
  | 'countHolds'
  | 'expire'
  | 'insertEntry'
  | 'selectEntry'
  | 'selectOutbox'
  | 'acknowledge'
  | 'setSecond'
  | 'raiseSecond'
  | 'rebookHolds'
  | 'rebookEntries',
  Statement
>;

const PRICE_COLUMNS = 'price_version, input_price, cached_input_price, output_price';

export function prepareLedger(db: Sql): LedgerStatements {
  return {
    insertHold: db.prepare(
      `INSERT INTO holds (request_id, tenant, key_id, model, pool, input_tokens, output_tokens, ${PRICE_COLUMNS},
         reserved_ms, booked_second, deadline_ms, expires_ms, key_hash, state)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'held')`,
    ),
    selectHolds: db.prepare(
      'SELECT * FROM holds WHERE (tenant, request_id) > (?, ?) ORDER BY tenant, request_id LIMIT ?',
    ),
    updateHold: db.prepare('UPDATE holds SET input_tokens = ?, output_tokens = ? WHERE tenant = ? AND request_id = ?'),
    reroute: db.prepare(
      'UPDATE holds SET pool = ?, leg = leg + 1, leg_ms = ?, released = ? WHERE tenant = ? AND request_id = ?',
    ),
    deleteHold: db.prepare('DELETE FROM holds WHERE tenant = ? AND request_id = ?'),
    countHolds: db.prepare(
      `SELECT count(*) FILTER (WHERE state = 'held') AS held, count(*) FILTER (WHERE state = 'unresolved') AS unresolved FROM holds`,
    ),
    expire: db.prepare(
      `UPDATE holds SET state = 'unresolved' WHERE state = 'held' AND expires_ms <= ? RETURNING tenant`,
    ),
    insertEntry: db.prepare(
      `INSERT INTO entries (sequence, request_id, tenant, key_id, model, pool, input, cached_input, output, outcome, ${PRICE_COLUMNS},
         cost_nano, reserved_ms, booked_second, settled_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    selectEntry: db.prepare('SELECT 1 FROM entries WHERE tenant = ? AND request_id = ?'),
    selectOutbox: db.prepare(
      'SELECT * FROM entries WHERE sequence > (SELECT sequence FROM acknowledged) ORDER BY sequence LIMIT ?',
    ),
    acknowledge: db.prepare('UPDATE acknowledged SET sequence = max(sequence, ?)'),
    setSecond: db.prepare('UPDATE tenants SET latest_second = ? WHERE id = ?'),
    raiseSecond: db.prepare('UPDATE tenants SET latest_second = max(latest_second, ?) WHERE id = ?'),
    rebookHolds: db.prepare(
      `UPDATE holds SET booked_second = CASE WHEN booked_second >= ?3 THEN ?4 ELSE 0 END
       WHERE tenant = ?1 AND booked_second >= ?5 AND reserved_ms >= ?2`,
    ),
    rebookEntries: db.prepare(
      `WITH ${FOUND} UPDATE entries SET booked_second = CASE WHEN booked_second >= ?5 THEN ?6 ELSE 0 END
       WHERE sequence IN (SELECT sequence FROM found UNION ALL SELECT value FROM json_each(?4))
         AND booked_second >= ?7 AND reserved_ms >= ?2`,
    ),
  };
}

/** In the order of their columns. */
export function priceValues(price: Price | null): SqlValue[] {
  if (price === null) return [null, 0, 0, 0];
  return [price.version, price.inputNanoUsd, price.cachedInputNanoUsd, price.outputNanoUsd];
}

export function priceOf(row: Row): Price | null {
  const version = textOrNull(row, 'price_version');
  if (version === null) return null;
  return {
    version,
    inputNanoUsd: int(row, 'input_price'),
    cachedInputNanoUsd: int(row, 'cached_input_price'),
    outputNanoUsd: int(row, 'output_price'),
  };
}

/** A hold with what is the ledger's own: the second it is booked in, and the hash of its idempotency key. */
export interface HeldRow extends Hold {
  second: number;
  keyHash: string | null;
}

/** What a hold takes of a metric. One past its expiry runs no more. */
export function heldOf(hold: Hold, metric: Metric): number {
  if (metric === 'concurrent') return hold.state === 'held' ? 1 : 0;
  return amountOf(unitsOf(metric, hold.price), hold.inputTokens, hold.outputTokens);
}

export function holdOf(row: Row): HeldRow {
  return {
    requestId: text(row, 'request_id'),
    tenant: text(row, 'tenant'),
    keyId: text(row, 'key_id'),
    model: text(row, 'model'),
    pool: text(row, 'pool'),
    inputTokens: int(row, 'input_tokens'),
    outputTokens: int(row, 'output_tokens'),
    price: priceOf(row),
    reservedAtMs: int(row, 'reserved_ms'),
    leg: int(row, 'leg'),
    legFromMs: intOrNull(row, 'leg_ms') ?? int(row, 'reserved_ms'),
    released: releasedOf(textOrNull(row, 'released')),
    second: int(row, 'booked_second'),
    keyHash: textOrNull(row, 'key_hash'),
    deadlineMs: int(row, 'deadline_ms'),
    expiresMs: int(row, 'expires_ms'),
    state: text(row, 'state') === 'held' ? 'held' : 'unresolved',
  };
}

function releasedOf(stored: string | null): Released | null {
  return stored === null ? null : (JSON.parse(stored) as Released);
}

/** Rows of `entries`, and of `usage` under the ledger's names. */
export function entryOf(row: Row): LedgerEntry {
  return {
    sequence: int(row, 'sequence'),
    requestId: text(row, 'request_id'),
    tenant: text(row, 'tenant'),
    keyId: text(row, 'key_id'),
    model: text(row, 'model'),
    pool: text(row, 'pool'),
    inputTokens: int(row, 'input'),
    cachedInputTokens: int(row, 'cached_input'),
    outputTokens: int(row, 'output'),
    outcome: billedOutcome(text(row, 'outcome')),
    price: priceOf(row),
    costNanoUsd: int(row, 'cost_nano'),
    reservedAtMs: int(row, 'reserved_ms'),
    settledAtMs: int(row, 'settled_ms'),
  };
}

function billedOutcome(value: string): BilledOutcome {
  const known = (['completed', 'cancelled', 'failed', 'refused', 'estimated'] as const).find((one) => one === value);
  invariant(known, 'unknown outcome in the ledger', { value });
  return known;
}
