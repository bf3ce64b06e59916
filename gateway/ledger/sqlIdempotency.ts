// Records of idempotency keys, and the answers that are replayed, as rows: read and written inside the transactions of the ledger's
// commands. What is kept of a tenant is counted on its own row, so that nothing is added up per request.
import { invariant } from '../invariant.ts';
import { bytesOrNull, int, type Row, type Sql, type Statement, text } from '../sql.ts';
import type { Bill } from './bill.ts';
import {
  type IdempotencyBounds,
  type IdempotencyRecord,
  type PresentedKey,
  requestOf,
  type SealedAnswer,
  type Standing,
  standingOf,
  unbilledPart,
} from './idempotency.ts';
import type { NewAttempt } from './port.ts';

/** Expired records that one command takes away. */
const EXPIRED_PER_COMMAND = 100;

const NO_HOLD = `NOT EXISTS (SELECT 1 FROM holds WHERE holds.tenant = idempotency.tenant AND holds.key_hash = idempotency.key_hash)`;

export class SqlIdempotency {
  readonly #bounds: IdempotencyBounds;
  readonly #select: Statement;
  readonly #selectHold: Statement;
  readonly #selectAnswer: Statement;
  readonly #insert: Statement;
  readonly #delete: Statement;
  readonly #attempt: Statement;
  readonly #bill: Statement;
  readonly #answer: Statement;
  readonly #count: Statement;
  readonly #selectKept: Statement;
  readonly #expired: Statement;
  readonly #next: Statement;
  readonly #dropOldest: Statement;
  readonly #answerOf: Statement;
  readonly #oldestAnswer: Statement;
  readonly #dropAnswer: Statement;
  readonly #forgetAnswers: Statement;
  readonly #countNone: Statement;

  constructor(db: Sql, bounds: IdempotencyBounds) {
    this.#bounds = bounds;
    this.#select = db.prepare(
      `SELECT body_digest, request_id, attempts, seed, output_tokens, billed_input, billed_positions, expires_ms, answer IS NOT NULL AS answered
       FROM idempotency WHERE tenant = ? AND key_hash = ?`,
    );
    this.#selectHold = db.prepare('SELECT 1 FROM holds WHERE tenant = ? AND key_hash = ?');
    this.#selectAnswer = db.prepare('SELECT answer FROM idempotency WHERE tenant = ? AND key_hash = ?');
    this.#insert = db.prepare(
      `INSERT INTO idempotency (tenant, key_hash, body_digest, request_id, attempts, seed, output_tokens, billed_input, billed_positions,
         expires_ms, answer) VALUES (?, ?, ?, ?, 1, ?, ?, 0, '[]', ?, NULL)`,
    );
    const gone = 'RETURNING tenant, coalesce(length(answer), 0) AS bytes';
    this.#delete = db.prepare(`DELETE FROM idempotency WHERE tenant = ? AND key_hash = ? ${gone}`);
    this.#attempt = db.prepare('UPDATE idempotency SET attempts = attempts + 1 WHERE tenant = ? AND key_hash = ?');
    this.#bill = db.prepare(
      'UPDATE idempotency SET billed_input = ?, billed_positions = ? WHERE tenant = ? AND key_hash = ?',
    );
    this.#answer = db.prepare(
      `UPDATE idempotency SET answer = ? WHERE tenant = ? AND key_hash = ? AND answer IS NULL
         AND request_id || iif(attempts = 1, '', '.' || attempts) = ? RETURNING 1`,
    );
    this.#count = db.prepare(
      'UPDATE tenants SET kept_records = kept_records + ?, kept_answer_bytes = kept_answer_bytes + ? WHERE id = ?',
    );
    this.#selectKept = db.prepare('SELECT kept_records, kept_answer_bytes FROM tenants WHERE id = ?');
    this.#expired = db.prepare(
      `DELETE FROM idempotency WHERE id IN (
         SELECT id FROM idempotency WHERE expires_ms <= ? AND ${NO_HOLD} ORDER BY expires_ms LIMIT ${EXPIRED_PER_COMMAND}) ${gone}`,
    );
    this.#next = db.prepare(`SELECT expires_ms FROM idempotency WHERE ${NO_HOLD} ORDER BY expires_ms LIMIT 1`);
    this.#dropOldest = db.prepare(
      `DELETE FROM idempotency WHERE id = (
         SELECT id FROM idempotency WHERE tenant = ? AND ${NO_HOLD} ORDER BY expires_ms LIMIT 1) ${gone}`,
    );
    const answers = 'SELECT id, length(answer) AS bytes FROM idempotency WHERE answer IS NOT NULL AND tenant = ?';
    this.#answerOf = db.prepare(`${answers} AND key_hash = ?`);
    this.#oldestAnswer = db.prepare(`${answers} ORDER BY expires_ms LIMIT 1`);
    this.#dropAnswer = db.prepare('UPDATE idempotency SET answer = NULL WHERE id = ?');
    this.#forgetAnswers = db.prepare('UPDATE idempotency SET answer = NULL WHERE tenant = ?');
    this.#countNone = db.prepare('UPDATE tenants SET kept_answer_bytes = 0 WHERE id = ?');
  }

  find(tenant: string, presented: PresentedKey, nowMs: number): Standing {
    const row = this.#select.get(tenant, presented.keyHash);
    const holds = this.#selectHold.get(tenant, presented.keyHash) !== undefined;
    return standingOf(row && recordOf(row), holds, presented, nowMs);
  }

  answer(tenant: string, keyHash: string): Uint8Array {
    const row = this.#selectAnswer.get(tenant, keyHash);
    const answer = row && bytesOrNull(row, 'answer');
    invariant(answer, 'an answered record has its answer');
    return answer;
  }

  /** An attempt is granted now: its seed. */
  begin(tenant: string, requestId: string, attempt: NewAttempt, outputTokens: number, standing: Standing): number {
    const { keyHash, bodyDigest, seed, keptUntilMs } = attempt;
    if (standing.kind === 'lost') {
      this.#attempt.run(tenant, keyHash);
      return standing.record.seed;
    }
    this.#forget(this.#delete.all(tenant, keyHash));
    this.#insert.run(tenant, keyHash, bodyDigest, requestOf(requestId), seed, outputTokens, keptUntilMs);
    this.#count.run(1, 0, tenant);
    for (let dropped: Row[] = [{}]; dropped.length > 0 && this.#kept(tenant).records > this.#bounds.records; ) {
      dropped = this.#dropOldest.all(tenant);
      this.#forget(dropped);
    }
    return seed;
  }

  /** The part of an attempt's bill that no attempt before had. It is counted as billed from now on. */
  bill(tenant: string, keyHash: string, whole: Bill): Bill {
    const row = this.#select.get(tenant, keyHash);
    if (!row) return whole;
    const { bill, billed } = unbilledPart(recordOf(row).billed, whole);
    this.#bill.run(billed.inputTokens, JSON.stringify(billed.positions), tenant, keyHash);
    return bill;
  }

  /** Unless a later attempt has begun. */
  keep(tenant: string, attempt: string, { keyHash, sealed }: SealedAnswer): void {
    if (sealed.length > this.#bounds.answerBytes) return;
    if (this.#answer.all(sealed, tenant, keyHash, attempt).length === 0) return;
    this.#count.run(0, sealed.length, tenant);
    while (this.#kept(tenant).bytes > this.#bounds.answerBytes) {
      const oldest = this.#oldestAnswer.get(tenant);
      invariant(oldest, 'bytes are counted of answers that are there', { tenant });
      this.#drop(tenant, oldest);
    }
  }

  forgetAnswer(tenant: string, keyHash: string): void {
    const answer = this.#answerOf.get(tenant, keyHash);
    if (answer) this.#drop(tenant, answer);
  }

  /** From now on nothing is replayed. The records stay: attempts that still run are billed by them. */
  forgetAnswers(tenant: string): void {
    this.#forgetAnswers.run(tenant);
    this.#countNone.run(tenant);
  }

  expire(nowMs: number): void {
    this.#forget(this.#expired.all(nowMs));
  }

  nextExpiry(): number | null {
    const next = this.#next.get();
    return next ? int(next, 'expires_ms') : null;
  }

  #kept(tenant: string): { records: number; bytes: number } {
    const row = this.#selectKept.get(tenant);
    return { records: int(row, 'kept_records'), bytes: int(row, 'kept_answer_bytes') };
  }

  #drop(tenant: string, answer: Row): void {
    this.#dropAnswer.run(int(answer, 'id'));
    this.#count.run(0, -int(answer, 'bytes'), tenant);
  }

  #forget(deleted: readonly Row[]): void {
    for (const row of deleted) this.#count.run(-1, -int(row, 'bytes'), text(row, 'tenant'));
  }
}

function recordOf(row: Row): IdempotencyRecord {
  const positions: number[] = JSON.parse(text(row, 'billed_positions'));
  return {
    bodyDigest: text(row, 'body_digest'),
    requestId: text(row, 'request_id'),
    attempts: int(row, 'attempts'),
    seed: int(row, 'seed'),
    outputTokens: int(row, 'output_tokens'),
    billed: { inputTokens: int(row, 'billed_input'), positions },
    answered: int(row, 'answered') === 1,
    expiresAtMs: int(row, 'expires_ms'),
  };
}
