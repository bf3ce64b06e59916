// The counters of quotas per window, as rows that can always be recomputed from entries and holds: a window's row is made from
// their sums when it is first asked for, and moved along by every reservation and settlement after that.
import { createHash } from 'node:crypto';
import { int, intOrNull, type Row, type Sql, type Statement, text, textOrNull } from '../sql.ts';
import type { Meter } from './decide.ts';
import type { QuotaRule, QuotaState } from './port.ts';
import { type WindowKind, windowAt } from './windows.ts';

/** Closed windows are kept this long; a later settlement then finds no row to move, and none that could be asked for. */
const KEEP_CLOSED_WINDOWS_MS = 62 * 86_400_000;

interface StoredQuota extends QuotaRule {
  id: string;
}

/** A meter with the quota that it counts for. */
export interface QuotaMeter extends Meter, QuotaState {
  quotaId: string;
  startMs: number;
}

/** Equal for rules that count the same; so a changed limit keeps its meter. */
export function quotaIdOf(rule: QuotaRule): string {
  const models = rule.models ? [...rule.models].sort() : null;
  const digest = createHash('sha256')
    .update(JSON.stringify([rule.window, models, rule.timeZone]))
    .digest('hex');
  return `quota_${digest.slice(0, 24)}`;
}

export class SqlMeters {
  readonly #db: Sql;
  readonly #selectQuotas: Statement;
  readonly #selectMeter: Statement;
  readonly #insertMeter: Statement;
  readonly #moveMeter: Statement;
  readonly #prune: Statement;

  constructor(db: Sql) {
    this.#db = db;
    this.#selectQuotas = db.prepare('SELECT * FROM quotas WHERE tenant = ? ORDER BY position');
    this.#selectMeter = db.prepare(
      `SELECT * FROM meters WHERE tenant = ? AND quota = ? AND start_ms <= ? ORDER BY start_ms DESC LIMIT 1`,
    );
    this.#insertMeter = db.prepare(
      'INSERT INTO meters (tenant, quota, start_ms, end_ms, settled, held) VALUES (?, ?, ?, ?, ?, ?)',
    );
    this.#moveMeter = db.prepare(
      'UPDATE meters SET settled = settled + ?, held = held + ? WHERE tenant = ? AND quota = ? AND start_ms = ?',
    );
    this.#prune = db.prepare('DELETE FROM meters WHERE tenant = ? AND quota = ? AND end_ms < ?');
  }

  /** The meters that a request for `model` is booked in at `atMs`; without a model, of all quotas. */
  open(tenant: string, atMs: number, model?: string): QuotaMeter[] {
    return this.#quotas(tenant)
      .filter((quota) => model === undefined || counts(quota, model))
      .map((quota) => this.#read(tenant, quota, atMs) ?? this.#make(tenant, quota, atMs));
  }

  /** Moves the meters of the windows that hold `reservedAtMs`. A window without a row is made later, from what is then true. */
  move(tenant: string, model: string, reservedAtMs: number, change: { settled: number; held: number }): void {
    for (const quota of this.#quotas(tenant)) {
      if (!counts(quota, model)) continue;
      const meter = this.#read(tenant, quota, reservedAtMs);
      if (meter) this.#moveMeter.run(change.settled, change.held, tenant, quota.id, meter.startMs);
    }
  }

  replaceQuotas(tenant: string, rules: readonly QuotaRule[]): void {
    this.#db.prepare('DELETE FROM quotas WHERE tenant = ?').run(tenant);
    const insert = this.#db.prepare(
      'INSERT INTO quotas (id, tenant, position, window, limit_tokens, models, time_zone) VALUES (?, ?, ?, ?, ?, ?, ?)',
    );
    for (const [position, rule] of rules.entries()) {
      const models = rule.models && JSON.stringify(rule.models);
      insert.run(quotaIdOf(rule), tenant, position, rule.window, rule.limitTokens, models, rule.timeZone);
    }
    this.#db
      .prepare('DELETE FROM meters WHERE tenant = ?1 AND quota NOT IN (SELECT id FROM quotas WHERE tenant = ?1)')
      .run(tenant);
  }

  #quotas(tenant: string): StoredQuota[] {
    return this.#selectQuotas.all(tenant).map((row) => ({
      id: text(row, 'id'),
      window: windowKind(text(row, 'window')),
      limitTokens: int(row, 'limit_tokens'),
      models: modelList(textOrNull(row, 'models')),
      timeZone: text(row, 'time_zone'),
    }));
  }

  #read(tenant: string, quota: StoredQuota, atMs: number): QuotaMeter | undefined {
    const row = this.#selectMeter.get(tenant, quota.id, atMs);
    if (!row) return undefined;
    const endMs = intOrNull(row, 'end_ms');
    if (endMs !== null && atMs >= endMs) return undefined;
    return meterOf(quota, int(row, 'start_ms'), endMs, int(row, 'settled'), int(row, 'held'));
  }

  #make(tenant: string, quota: StoredQuota, atMs: number): QuotaMeter {
    const { startMs, endMs } = windowAt(quota.window, quota.timeZone, atMs);
    const settled = this.#sum('entries', 'input + output', tenant, quota, startMs, endMs);
    const held = this.#sum('holds', 'tokens', tenant, quota, startMs, endMs);
    this.#insertMeter.run(tenant, quota.id, startMs, endMs, settled, held);
    this.#prune.run(tenant, quota.id, startMs - KEEP_CLOSED_WINDOWS_MS);
    return meterOf(quota, startMs, endMs, settled, held);
  }

  #sum(
    table: 'entries' | 'holds',
    tokens: string,
    tenant: string,
    quota: StoredQuota,
    startMs: number,
    endMs: number | null,
  ): number {
    const models = quota.models ? 'AND model IN (SELECT value FROM json_each(?4))' : 'AND ?4 IS NULL';
    const row: Row | undefined = this.#db
      .prepare(
        `SELECT coalesce(sum(${tokens}), 0) AS tokens FROM ${table}
         WHERE tenant = ?1 AND reserved_ms >= ?2 AND reserved_ms < ?3 ${models}`,
      )
      .get(tenant, startMs, endMs ?? Number.MAX_SAFE_INTEGER, quota.models && JSON.stringify(quota.models));
    return int(row, 'tokens');
  }
}

function counts(quota: QuotaRule, model: string): boolean {
  return quota.models === null || quota.models.includes(model);
}

function meterOf(
  quota: StoredQuota,
  startMs: number,
  endMs: number | null,
  settledTokens: number,
  heldTokens: number,
): QuotaMeter {
  const { id, ...rule } = quota;
  return { ...rule, quotaId: id, startMs, resetsAtMs: endMs, settledTokens, heldTokens };
}

function windowKind(value: string): WindowKind {
  return value === 'day' || value === 'month' ? value : 'lifetime';
}

function modelList(json: string | null): string[] | null {
  if (json === null) return null;
  const value: unknown = JSON.parse(json);
  return Array.isArray(value) ? value.map(String) : null;
}
