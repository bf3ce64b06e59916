// The ledger in SQL: every command is one transaction on one connection, so commands are serial and atomic, and durable when they
// resolve. A database may hold one tenant or all; nothing in a command on a tenant reads across them.
import { invariant } from '../invariant.ts';
import type { KeyHash } from '../keys/apiKey.ts';
import { int, type Row, type Sql, type Statement, text } from '../sql.ts';
import { type BilledOutcome, withinHold } from './bill.ts';
import { decide } from './decide.ts';
import type {
  Admission,
  AdmitCommand,
  Hold,
  KeyPresented,
  KeyRecord,
  KeyStatus,
  LedgerEntry,
  LedgerStore,
  QuotaRule,
  QuotaState,
  SettleCommand,
  Settlement,
} from './port.ts';
import { MAX_LEDGER_PAGE, MAX_QUOTAS } from './port.ts';
import { SqlKeys } from './sqlKeys.ts';
import { type QuotaMeter, SqlMeters } from './sqlMeters.ts';

export class SqlLedger implements LedgerStore {
  readonly #db: Sql;
  readonly #keys: SqlKeys;
  readonly #meters: SqlMeters;
  readonly #statements: ReturnType<typeof prepare>;

  /** `db` has the schema of migrations.ts. */
  constructor(db: Sql) {
    this.#db = db;
    this.#keys = new SqlKeys(db);
    this.#meters = new SqlMeters(db);
    this.#statements = prepare(db);
  }

  async admit(command: AdmitCommand): Promise<Admission> {
    return this.#db.transaction((): Admission => {
      const { tenant, model, nowMs, requestId } = command;
      const key = this.#keys.authenticate(command, nowMs);
      if (typeof key === 'string') return { kind: key };
      const meters = this.#meters.open(tenant, nowMs, model);
      const decision = decide(meters, command.demand);
      if (decision.kind === 'count_first') return decision;
      if (decision.kind !== 'granted') {
        const { kind, meter, neededTokens } = decision;
        return { kind, neededTokens, quota: stateOf(meter), quotas: meters.map(stateOf) };
      }
      const { holdTokens, outputTokens } = decision;
      const { deadlineMs, expiresMs, pool } = command;
      this.#statements.insertHold.run(requestId, tenant, key.id, model, pool, holdTokens, nowMs, deadlineMs, expiresMs);
      this.#meters.move(tenant, model, nowMs, { settled: 0, held: holdTokens });
      const quotas = meters.map((meter) => stateOf({ ...meter, heldTokens: meter.heldTokens + holdTokens }));
      return { kind: 'granted', keyId: key.id, outputTokens, holdTokens, quotas };
    });
  }

  async keyStatus(command: KeyPresented & { nowMs: number }): Promise<KeyStatus> {
    return this.#db.transaction((): KeyStatus => {
      const key = this.#keys.authenticate(command, command.nowMs);
      if (typeof key === 'string') return { kind: key };
      return { kind: 'known', key, quotas: this.#meters.open(command.tenant, command.nowMs).map(stateOf) };
    });
  }

  async shrink(command: { tenant: string; requestId: string; holdTokens: number }): Promise<void> {
    const { tenant, requestId, holdTokens } = command;
    invariant(Number.isSafeInteger(holdTokens) && holdTokens >= 0, 'holds are whole tokens', { holdTokens });
    this.#db.transaction(() => {
      const hold = this.#hold(tenant, requestId);
      if (!hold || holdTokens >= hold.holdTokens) return;
      this.#statements.updateHold.run(holdTokens, requestId);
      const released = hold.holdTokens - holdTokens;
      this.#meters.move(tenant, hold.model, hold.reservedAtMs, { settled: 0, held: -released });
    });
  }

  async settle(command: SettleCommand): Promise<Settlement> {
    const { tenant, requestId, nowMs } = command;
    return this.#db.transaction((): Settlement => {
      const hold = this.#hold(tenant, requestId);
      if (!hold) return this.#statements.selectEntry.get(tenant, requestId) ? 'already' : 'unknown';
      const bill = withinHold(command.bill, hold.holdTokens);
      const { inputTokens, cachedInputTokens, outputTokens, outcome } = bill;
      const { keyId, model, pool, reservedAtMs } = hold;
      this.#statements.deleteHold.run(requestId);
      const entry = this.#statements.insertEntry.get(
        ...[requestId, tenant, keyId, model, pool],
        ...[inputTokens, cachedInputTokens, outputTokens, outcome, reservedAtMs, nowMs],
      );
      this.#statements.insertOutbox.run(int(entry, 'sequence'));
      const settled = inputTokens + outputTokens;
      this.#meters.move(tenant, model, reservedAtMs, { settled, held: -hold.holdTokens });
      return 'booked';
    });
  }

  async expire(nowMs: number): Promise<number> {
    return this.#statements.expire.all(nowMs).length;
  }

  async holds(query: { after?: string; limit: number }): Promise<Hold[]> {
    const limit = Math.min(query.limit, MAX_LEDGER_PAGE);
    return this.#statements.selectHolds.all(query.after ?? '', limit).map(holdOf);
  }

  async holdCounts(): Promise<{ held: number; unresolved: number }> {
    const row = this.#statements.countHolds.get();
    return { held: int(row, 'held'), unresolved: int(row, 'unresolved') };
  }

  async outbox(limit: number): Promise<LedgerEntry[]> {
    return this.#statements.selectOutbox.all(Math.min(limit, MAX_LEDGER_PAGE)).map(entryOf);
  }

  async acknowledgeOutbox(upTo: number): Promise<void> {
    this.#statements.deleteOutbox.run(upTo);
  }

  async openTenant(tenant: string): Promise<void> {
    this.#db.prepare('INSERT OR IGNORE INTO tenants (id) VALUES (?)').run(tenant);
  }

  async archiveTenant(tenant: string): Promise<void> {
    this.#db.prepare('UPDATE tenants SET archived = 1 WHERE id = ?').run(tenant);
  }

  async putQuotas(tenant: string, rules: readonly QuotaRule[], nowMs: number): Promise<QuotaState[]> {
    invariant(rules.length <= MAX_QUOTAS, 'too many quotas', { rules: rules.length });
    return this.#db.transaction(() => {
      this.#meters.replaceQuotas(tenant, rules);
      return this.#meters.open(tenant, nowMs).map(stateOf);
    });
  }

  async quotas(tenant: string, nowMs: number): Promise<QuotaState[]> {
    return this.#db.transaction(() => this.#meters.open(tenant, nowMs).map(stateOf));
  }

  async addKey(record: KeyRecord, hash: KeyHash): Promise<void> {
    this.#keys.add(record, hash);
  }

  async keys(tenant: string): Promise<KeyRecord[]> {
    return this.#keys.list(tenant);
  }

  async deleteKey(tenant: string, keyId: string): Promise<boolean> {
    return this.#keys.delete(tenant, keyId);
  }

  #hold(tenant: string, requestId: string): Hold | undefined {
    const row = this.#statements.selectHold.get(tenant, requestId);
    return row && holdOf(row);
  }
}

function prepare(
  db: Sql,
): Record<
  | 'insertHold'
  | 'selectHold'
  | 'selectHolds'
  | 'updateHold'
  | 'deleteHold'
  | 'countHolds'
  | 'expire'
  | 'insertEntry'
  | 'selectEntry'
  | 'insertOutbox'
  | 'selectOutbox'
  | 'deleteOutbox',
  Statement
> {
  return {
    insertHold: db.prepare(
      `INSERT INTO holds (request_id, tenant, key_id, model, pool, tokens, reserved_ms, deadline_ms, expires_ms, state)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'held')`,
    ),
    selectHold: db.prepare('SELECT * FROM holds WHERE tenant = ? AND request_id = ?'),
    selectHolds: db.prepare('SELECT * FROM holds WHERE request_id > ? ORDER BY request_id LIMIT ?'),
    updateHold: db.prepare('UPDATE holds SET tokens = ? WHERE request_id = ?'),
    deleteHold: db.prepare('DELETE FROM holds WHERE request_id = ?'),
    countHolds: db.prepare(
      `SELECT count(*) FILTER (WHERE state = 'held') AS held, count(*) FILTER (WHERE state = 'unresolved') AS unresolved FROM holds`,
    ),
    expire: db.prepare(
      `UPDATE holds SET state = 'unresolved' WHERE state = 'held' AND expires_ms <= ? RETURNING request_id`,
    ),
    insertEntry: db.prepare(
      `INSERT INTO entries
       (request_id, tenant, key_id, model, pool, input, cached_input, output, outcome, reserved_ms, settled_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING sequence`,
    ),
    selectEntry: db.prepare('SELECT 1 FROM entries WHERE tenant = ? AND request_id = ?'),
    insertOutbox: db.prepare('INSERT INTO outbox (sequence) VALUES (?)'),
    selectOutbox: db.prepare('SELECT entries.* FROM outbox JOIN entries USING (sequence) ORDER BY sequence LIMIT ?'),
    deleteOutbox: db.prepare('DELETE FROM outbox WHERE sequence <= ?'),
  };
}

function stateOf({ quotaId: _id, startMs: _start, ...state }: QuotaMeter): QuotaState {
  return state;
}

function holdOf(row: Row): Hold {
  return {
    requestId: text(row, 'request_id'),
    tenant: text(row, 'tenant'),
    keyId: text(row, 'key_id'),
    model: text(row, 'model'),
    pool: text(row, 'pool'),
    holdTokens: int(row, 'tokens'),
    reservedAtMs: int(row, 'reserved_ms'),
    deadlineMs: int(row, 'deadline_ms'),
    expiresMs: int(row, 'expires_ms'),
    state: text(row, 'state') === 'held' ? 'held' : 'unresolved',
  };
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
    reservedAtMs: int(row, 'reserved_ms'),
    settledAtMs: int(row, 'settled_ms'),
  };
}

function billedOutcome(value: string): BilledOutcome {
  const known = (['completed', 'cancelled', 'failed', 'refused', 'estimated'] as const).find((one) => one === value);
  invariant(known, 'unknown outcome in the ledger', { value });
  return known;
}
