// The ledger in SQL: every command is a transaction on one connection, by itself or with others that came at once, so commands are serial
// and atomic, and durable when they resolve. A database may hold one tenant or all; nothing in a command on a tenant reads across them.
import { invariant } from '../invariant.ts';
import type { KeyHash } from '../keys/apiKey.ts';
import { costOf } from '../prices/price.ts';
import { int, type Sql, text, textOrNull } from '../sql.ts';
import { atLeast, withinHold } from './bill.ts';
import { BOOKS_BYTES, type Book, Books } from './books.ts';
import { decide, type HoldBounds, type RefusalKind } from './decide.ts';
import { ENTRIES_PER_RUN, EntryRuns } from './entryRuns.ts';
import { conflictOf, demandOf, IDEMPOTENCY_BOUNDS, type IdempotencyBounds } from './idempotency.ts';
import { newestOf } from './lateEntries.ts';
import type { LimitState, Metric } from './limits.ts';
import { earliestOfMinute, ledgerSecond, oldestSecond } from './minuteWindow.ts';
import type {
  Admission,
  AdmitCommand,
  Hold,
  HoldPlace,
  KeyChange,
  KeyPresented,
  KeyRecord,
  KeyRotation,
  KeyStatus,
  KeyStraggler,
  LedgerEntry,
  LedgerStore,
  LimitSet,
  RecallCommand,
  Recollection,
  RerouteCommand,
  SettleCommand,
  Settlement,
} from './port.ts';
import { MAX_KEY_LIMITS, MAX_LEDGER_PAGE, MAX_TENANT_LIMITS } from './port.ts';
import { SqlIdempotency } from './sqlIdempotency.ts';
import { SqlKeys } from './sqlKeys.ts';
import { type Booking, type LimitMeter, SqlMeters, stateOf } from './sqlMeters.ts';
import { entryOf, type HeldRow, heldOf, holdOf, type LedgerStatements, prepareLedger, priceValues } from './sqlRows.ts';
import { modelList, SqlRules } from './sqlRules.ts';
import { SqlWaits } from './sqlWaits.ts';

/** Meters' rows that are brought up to date in one go, and keys whose rows are looked for. */
const ROWS_AT_ONCE = 128;
const KEYS_AT_ONCE = 64;

export interface LedgerOptions {
  idempotency?: IdempotencyBounds;
  /** For tenants that are remembered (books.ts). */
  booksBytes?: number;
  /** See entryRuns.ts. */
  entriesPerRun?: number;
}

export class SqlLedger implements LedgerStore {
  readonly #db: Sql;
  readonly #books: Books;
  readonly #keys: SqlKeys;
  readonly #rules: SqlRules;
  readonly #runs: EntryRuns;
  readonly #meters: SqlMeters;
  readonly #waits: SqlWaits;
  readonly #idempotency: SqlIdempotency;
  readonly #statements: LedgerStatements;

  /** `db` has the schema of migrations.ts. */
  constructor(db: Sql, options: LedgerOptions = {}) {
    const { idempotency = IDEMPOTENCY_BOUNDS, entriesPerRun = ENTRIES_PER_RUN, booksBytes = BOOKS_BYTES } = options;
    this.#db = db;
    this.#runs = new EntryRuns(db, entriesPerRun);
    this.#books = new Books(db, this.#runs, booksBytes);
    this.#idempotency = new SqlIdempotency(db, idempotency);
    this.#keys = new SqlKeys(db);
    this.#rules = new SqlRules(db);
    this.#meters = new SqlMeters(db, this.#rules, this.#runs);
    this.#waits = new SqlWaits(db, this.#runs);
    this.#statements = prepareLedger(db);
  }

  async admit(command: AdmitCommand): Promise<Admission> {
    return this.#db.commit((): Admission => {
      const { tenant, model, price, nowMs, requestId, idempotency } = command;
      const known = this.#keys.authenticate(this.#books.of(tenant), command.hashes, nowMs);
      if (typeof known === 'string') return { kind: known };
      if (known.allowedModels && !known.allowedModels.includes(model)) return { kind: 'model_not_allowed' };
      const standing = idempotency && this.#idempotency.find(tenant, idempotency, nowMs);
      const conflict = standing && conflictOf(standing, requestId);
      if (conflict) return { kind: conflict };
      const keyId = known.key.id;
      const { book, second } = this.#bookAt(tenant, nowMs);
      const booking: Booking = { keyId, model, atMs: nowMs, second };
      const meters = this.#meters.open(book, booking, price);
      const decision = decide(meters, standing ? demandOf(command.demand, standing) : command.demand);
      if (decision.kind !== 'granted') this.#storeSecond(book);
      if (decision.kind === 'count_first') return decision;
      if (decision.kind !== 'granted') return this.#refusal(decision.kind, decision.refusing, meters, book, nowMs);
      const { hold, held, outputTokens } = decision;
      const { pool, deadlineMs, expiresMs } = command;
      const keyHash = idempotency?.keyHash ?? null;
      this.#statements.insertHold.run(
        ...[requestId, tenant, keyId, model, pool, held.inputTokens, held.outputTokens, ...priceValues(price)],
        ...[nowMs, second, deadlineMs, expiresMs, keyHash],
      );
      const seed = standing ? this.#idempotency.begin(tenant, requestId, idempotency, outputTokens, standing) : null;
      const limits = this.#meters.hold(meters, booking, held);
      book.holds.set(requestId, {
        ...{ requestId, tenant, keyId, model, pool, ...held, price, reservedAtMs: nowMs, deadlineMs, expiresMs },
        ...{ state: 'held', leg: 0, legFromMs: nowMs, released: null, second, keyHash },
      });
      return { kind: 'granted', keyId, outputTokens, seed, hold, limits };
    });
  }

  async recall(command: RecallCommand): Promise<Recollection> {
    return this.#db.commit((): Recollection => {
      const { tenant, model, keyHash, nowMs } = command;
      const known = this.#keys.authenticate(this.#books.of(tenant), command.hashes, nowMs);
      if (typeof known === 'string') return { kind: known };
      if (known.allowedModels && !known.allowedModels.includes(model)) return { kind: 'model_not_allowed' };
      if (command.unreadable) this.#idempotency.forgetAnswer(tenant, keyHash);
      const standing = this.#idempotency.find(tenant, command, nowMs);
      if (standing.kind === 'lost') return { kind: 'lost', next: standing.next };
      if (standing.kind !== 'answered') return standing;
      const answer = this.#idempotency.answer(tenant, keyHash);
      const limits = this.#limits(tenant, known.key.id, nowMs);
      return { kind: 'answered', requestId: standing.record.requestId, answer, limits };
    });
  }

  async keyStatus(command: KeyPresented & { nowMs: number }): Promise<KeyStatus> {
    return this.#db.transaction((): KeyStatus => {
      const { tenant, nowMs } = command;
      const known = this.#keys.authenticate(this.#books.of(tenant), command.hashes, nowMs);
      if (typeof known === 'string') return { kind: known };
      const { key, allowedModels } = known;
      return { kind: 'known', key, allowedModels, limits: this.#limits(tenant, key.id, nowMs) };
    });
  }

  async shrink(command: { tenant: string; requestId: string } & HoldBounds): Promise<void> {
    const { tenant, requestId } = command;
    for (const tokens of [command.inputTokens, command.outputTokens])
      invariant(Number.isSafeInteger(tokens) && tokens >= 0, 'holds are whole tokens', { tokens });
    await this.#db.commit(() => {
      const book = this.#books.of(tenant);
      const hold = book.holds.get(requestId);
      if (!hold) return;
      const inputTokens = Math.min(hold.inputTokens, command.inputTokens);
      const outputTokens = Math.min(hold.outputTokens, command.outputTokens);
      if (inputTokens === hold.inputTokens && outputTokens === hold.outputTokens) return;
      this.#statements.updateHold.run(inputTokens, outputTokens, tenant, requestId);
      const after = { ...hold, inputTokens, outputTokens };
      this.#meters.move(book, bookingOf(hold), (metric) => ({
        settled: 0,
        held: heldOf(after, metric) - heldOf(hold, metric),
      }));
      book.holds.set(requestId, after);
    });
  }

  async reroute({ tenant, requestId, pool, released, nowMs }: RerouteCommand): Promise<boolean> {
    return this.#db.commit(() => {
      const { holds } = this.#books.of(tenant);
      const hold = holds.get(requestId);
      if (!hold) return false;
      this.#statements.reroute.run(pool, nowMs, released && JSON.stringify(released), tenant, requestId);
      holds.set(requestId, { ...hold, pool, leg: hold.leg + 1, legFromMs: nowMs, released });
      return true;
    });
  }

  async settle(command: SettleCommand): Promise<Settlement> {
    const { tenant, requestId, nowMs, word } = command;
    return this.#db.commit((): Settlement => {
      const book = this.#books.of(tenant);
      const hold = book.holds.get(requestId);
      if (!hold && !this.#statements.selectEntry.get(tenant, requestId)) return 'unknown';
      if (hold && word && (word.pool !== hold.pool || (word.leg ?? hold.leg) !== hold.leg)) return 'elsewhere';
      if (command.answer) this.#idempotency.keep(tenant, requestId, command.answer);
      if (!hold) return 'already';
      const whole = atLeast(command.bill, hold.released);
      const { keyHash } = hold;
      const bill = withinHold(keyHash === null ? whole : this.#idempotency.bill(tenant, keyHash, whole), hold);
      const { inputTokens, cachedInputTokens, outputTokens, outcome } = bill;
      const { keyId, model, pool, price, reservedAtMs, second } = hold;
      const cost = costOf(price, bill);
      const settled = { requests: 1, tokens: inputTokens + outputTokens, spend: cost, concurrent: 0 };
      const moved = (metric: Metric) => ({ settled: settled[metric], held: -heldOf(hold, metric) });
      this.#meters.move(book, bookingOf(hold), moved);
      this.#statements.deleteHold.run(tenant, requestId);
      const sequence = this.#runs.newest + 1;
      this.#statements.insertEntry.run(
        ...[sequence, requestId, tenant, keyId, model, pool, inputTokens, cachedInputTokens, outputTokens, outcome],
        ...[...priceValues(price), cost, reservedAtMs, second, nowMs],
      );
      book.holds.delete(requestId);
      this.#runs.add(tenant, {
        ...{ sequence, keyId, model, reservedAtMs, second },
        tokens: settled.tokens,
        spend: cost,
      });
      return 'booked';
    });
  }

  async tend(): Promise<boolean> {
    if (!this.#runs.isBehind) return false;
    return this.#db.commit(() => {
      this.#runs.writeIfDue();
      for (let rows = 0, keys = 0; rows < ROWS_AT_ONCE && keys < KEYS_AT_ONCE; keys++) {
        const late = this.#runs.next();
        if (!late) break;
        const book = this.#books.peek(late.tenant);
        rows += this.#meters.count(late, book);
        if (late.first) this.#storeLateSecond(late.tenant, book);
      }
      return this.#runs.isBehind;
    });
  }

  async expire(nowMs: number): Promise<number> {
    return this.#db.transaction(() => {
      this.#idempotency.expire(nowMs);
      const expired = this.#statements.expire.all(nowMs);
      for (const row of expired) this.#books.drop(text(row, 'tenant'));
      return expired.length;
    });
  }

  async keptUntil(): Promise<number | null> {
    return this.#idempotency.nextExpiry();
  }

  async holds({ after, ...query }: { after?: HoldPlace; limit: number }): Promise<Hold[]> {
    const limit = Math.min(query.limit, MAX_LEDGER_PAGE);
    const place = [after?.tenant ?? '', after?.requestId ?? ''];
    return this.#db.transaction(() =>
      this.#statements.selectHolds.all(...place, limit).map((row) => {
        const { second: _, keyHash: __, ...hold } = holdOf(row);
        return hold;
      }),
    );
  }

  async holdCounts(): Promise<{ held: number; unresolved: number }> {
    const row = this.#db.transaction(() => this.#statements.countHolds.get());
    return { held: int(row, 'held'), unresolved: int(row, 'unresolved') };
  }

  async outbox(limit: number): Promise<LedgerEntry[]> {
    const most = Math.min(limit, MAX_LEDGER_PAGE);
    return this.#db.transaction(() => this.#statements.selectOutbox.all(most).map(entryOf));
  }

  async acknowledgeOutbox(upTo: number): Promise<void> {
    this.#statements.acknowledge.run(upTo);
  }

  async openTenant(tenant: string): Promise<void> {
    this.#db.prepare('INSERT OR IGNORE INTO tenants (id) VALUES (?)').run(tenant);
    this.#books.drop(tenant);
  }

  async archiveTenant(tenant: string): Promise<void> {
    this.#db.transaction(() => {
      this.#db.prepare('UPDATE tenants SET archived = 1 WHERE id = ?').run(tenant);
      this.#idempotency.forgetAnswers(tenant);
      this.#books.drop(tenant);
    });
  }

  async allowModels(tenant: string, models: readonly string[] | null): Promise<void> {
    this.#db.prepare('UPDATE tenants SET models = ? WHERE id = ?').run(models && JSON.stringify(models), tenant);
    this.#books.drop(tenant);
  }

  async allowedModels(tenant: string): Promise<readonly string[] | null> {
    const row = this.#db.prepare('SELECT models FROM tenants WHERE id = ?').get(tenant);
    return row ? modelList(textOrNull(row, 'models')) : null;
  }

  async putLimits(tenant: string, sets: readonly LimitSet[], nowMs: number): Promise<LimitState[] | 'too_many'> {
    return this.#db.transaction(() => {
      for (const [keyId, own] of Map.groupBy(sets, (set) => set.keyId)) {
        const rules = own.reduce((sum, set) => sum + set.rules.length, this.#rules.kept(tenant, keyId, own));
        if (rules > (keyId === null ? MAX_TENANT_LIMITS : MAX_KEY_LIMITS)) return 'too_many';
      }
      this.#rules.replace(tenant, sets);
      this.#books.drop(tenant);
      return this.#limits(tenant, null, nowMs);
    });
  }

  async limits(tenant: string, nowMs: number): Promise<LimitState[]> {
    return this.#db.transaction(() => this.#limits(tenant, null, nowMs));
  }

  async addKey(record: KeyRecord, hash: KeyHash): Promise<void> {
    this.#keys.add(record, hash);
    this.#books.drop(record.tenant);
  }

  async keys(tenant: string): Promise<KeyRecord[]> {
    return this.#keys.list(tenant, this.#books.peek(tenant));
  }

  async changeKey(tenant: string, keyId: string, change: KeyChange): Promise<boolean> {
    this.#books.drop(tenant);
    return this.#keys.change(tenant, keyId, change);
  }

  async rotateKey(rotation: KeyRotation): Promise<boolean> {
    this.#books.drop(rotation.tenant);
    return this.#keys.rotate(rotation);
  }

  async deleteKey(tenant: string, keyId: string): Promise<boolean> {
    return this.#db.transaction(() => {
      if (!this.#keys.delete(tenant, keyId)) return false;
      this.#rules.forgetKey(tenant, keyId);
      this.#books.drop(tenant);
      return true;
    });
  }

  async stragglers(tenant: string, newestPepperVersion: number): Promise<KeyStraggler[]> {
    return this.#keys.stragglers(tenant, newestPepperVersion, this.#books.peek(tenant));
  }

  /** The limit that the caller must wait for longest, or can't wait for. */
  #refusal(
    kind: RefusalKind,
    refusing: readonly { meter: LimitMeter; needed: number }[],
    meters: readonly LimitMeter[],
    book: Book,
    nowMs: number,
  ): Admission {
    const waits = refusing.map(({ meter, needed }) => {
      const passing = kind === 'rate' || kind === 'held';
      const resetMs = meter.resetsAtMs === null ? Number.POSITIVE_INFINITY : meter.resetsAtMs - nowMs;
      return { meter, needed, waitMs: passing ? this.#waits.untilMs(meter, needed, book, nowMs) : resetMs, passing };
    });
    const state = (one: LimitMeter) => stateOf(one, one.source, nowMs);
    const { meter, needed, waitMs, passing } = waits.reduce((most, one) => (one.waitMs > most.waitMs ? one : most));
    return {
      kind,
      limit: state(meter),
      needed,
      retryAfterMs: passing ? waitMs : null,
      limits: meters.map(state),
    };
  }

  /** Of a key and its tenant, or of all keys. */
  #limits(tenant: string, keyId: string | null, nowMs: number): LimitState[] {
    const { book, second } = this.#bookAt(tenant, nowMs);
    this.#storeSecond(book);
    return this.#meters.list(book, keyId, { atMs: nowMs, second });
  }

  /**
   * A tenant's book with the second that counts at `nowMs` (minuteWindow.ts), remembered: the hold that is booked in it says it, or
   * `storeSecond` stores it.
   */
  #bookAt(tenant: string, nowMs: number): { book: Book; second: number } {
    const known = this.#books.of(tenant);
    const latest = known.standing?.latestSecond ?? 0;
    const second = ledgerSecond(latest, nowMs);
    if (second < latest) this.#setBack(tenant, latest, second);
    const book = second < latest ? this.#books.of(tenant) : known;
    if (book.standing) book.standing.latestSecond = second;
    return { book, second };
  }

  #storeSecond({ tenant, standing }: Book): void {
    if (!standing || standing.latestSecond === standing.storedSecond) return;
    this.#statements.setSecond.run(standing.latestSecond, tenant);
    standing.storedSecond = standing.latestSecond;
  }

  /** Of a tenant whose late entries are counted: they say it no longer. */
  #storeLateSecond(tenant: string, book: Book | undefined): void {
    if (book) this.#storeSecond(book);
    else this.#statements.raiseSecond.run(Math.max(...this.#runs.late(tenant, null).map(newestOf)), tenant);
  }

  /** What counted by the clock that was wrong counts from now, and what had left by it stays away. */
  #setBack(tenant: string, latest: number, second: number): void {
    const [now, then, fromMs] = [oldestSecond(second), oldestSecond(latest), earliestOfMinute(second)];
    const fresh = this.#runs.fresh(tenant, null).map(({ sequence }) => sequence);
    const rebooked = [then, second, now];
    this.#statements.setSecond.run(second, tenant);
    this.#statements.rebookHolds.run(tenant, fromMs, ...rebooked);
    this.#statements.rebookEntries.run(tenant, fromMs, Number.MAX_SAFE_INTEGER, JSON.stringify(fresh), ...rebooked);
    this.#runs.rebook(tenant, (entry) => {
      if (entry.second < now || entry.reservedAtMs < fromMs) return entry.second;
      return entry.second >= then ? second : 0;
    });
    this.#meters.forgetMinutes(tenant);
    this.#books.drop(tenant);
  }
}

function bookingOf({ keyId, model, reservedAtMs, second }: HeldRow): Booking {
  return { keyId, model, atMs: reservedAtMs, second };
}
