// What a request gets that comes under an Idempotency-Key: a pure decision over the key's record and whether a hold of it is open.
//
//   absent ──admit──▶ running ──settled with an answer──▶ answered ──expiry──▶ absent
//                        ▲ └───settled without──▶ lost
//                        └──────────admit──────────┘       (the next attempt)
//
//   1. A tenant's key stands for one body while its record lives. Under another body nothing runs.
//   2. At most one attempt of a key holds tokens: record and hold are one write, so no crash leaves one without the other.
//   3. A finished answer is stored in the write that ends its hold, before its client has its end. Only where the pool's own receipt was
//      booked first does it come a moment later, and not if the next attempt has begun by then.
//   4. Every output position is billed once over all attempts, per choice, and the prompt once: an attempt's row has what none before had.
//   5. All attempts draw from the seed and the bound of the first, so that they say the same, under one request id.
//   6. A replay holds nothing, costs nothing, counts in no limit and asks no pool.
import type { Bill } from './bill.ts';
import type { Demand } from './decide.ts';

/** Past so many attempts a key is refused: positions that were billed before are computed again for nothing. */
export const MAX_ATTEMPTS = 8;

/** Of one tenant; where they are full, the oldest go: answers are then computed again, a record's key is free again. */
export interface IdempotencyBounds {
  records: number;
  answerBytes: number;
}

/** A record is a few hundred bytes, an answer usually a few thousand. */
export const IDEMPOTENCY_BOUNDS: IdempotencyBounds = { records: 100_000, answerBytes: 64 * 1024 * 1024 };

/** What the caller presents. Digests are keyed for the tenant: they tell nothing of key or body. */
export interface PresentedKey {
  keyHash: string;
  bodyDigest: string;
}

/** An attempt's answer as it is kept. */
export interface SealedAnswer {
  keyHash: string;
  sealed: Uint8Array;
}

export interface IdempotencyRecord {
  bodyDigest: string;
  /** Of the first attempt; it stands for all of them. */
  requestId: string;
  attempts: number;
  seed: number;
  /** Output tokens per choice that the first attempt was granted. */
  outputTokens: number;
  /** What the attempts that ended were billed together. */
  billed: BilledSoFar;
  answered: boolean;
  /** Unix milliseconds. */
  expiresAtMs: number;
}

export interface BilledSoFar {
  inputTokens: number;
  /** Output positions, per choice; choices without any may be missing. */
  positions: readonly number[];
}

export type KeyConflict = 'in_progress' | 'key_reused' | 'attempts_exhausted';

export type Standing =
  | { kind: 'absent' }
  /** `next`: the id of the attempt that comes now. */
  | { kind: 'lost'; next: string; record: IdempotencyRecord }
  | { kind: 'answered'; record: IdempotencyRecord }
  | { kind: KeyConflict };

/** `holds`: an attempt's hold is open. */
export function standingOf(
  record: IdempotencyRecord | undefined,
  holds: boolean,
  { bodyDigest }: PresentedKey,
  nowMs: number,
): Standing {
  if (!record || (!holds && nowMs >= record.expiresAtMs)) return { kind: 'absent' };
  if (record.bodyDigest !== bodyDigest) return { kind: 'key_reused' };
  if (holds) return { kind: 'in_progress' };
  if (record.answered) return { kind: 'answered', record };
  if (record.attempts >= MAX_ATTEMPTS) return { kind: 'attempts_exhausted' };
  return { kind: 'lost', next: attemptId(record.requestId, record.attempts + 1), record };
}

/** Why no attempt may be admitted under this id; null: it may. */
export function conflictOf(standing: Standing, attempt: string): KeyConflict | null {
  if (standing.kind === 'absent') return attempt === requestOf(attempt) ? null : 'in_progress';
  if (standing.kind === 'lost') return attempt === standing.next ? null : 'in_progress';
  return standing.kind === 'answered' ? 'in_progress' : standing.kind;
}

/** What an attempt asks for: what the first was granted, and no room for what was billed. */
export function demandOf(demand: Demand, standing: Standing): Demand {
  if (standing.kind !== 'lost') return demand;
  const { outputTokens, billed } = standing.record;
  const bounds = { inputTokens: billed.inputTokens, outputTokens: outputTokensOf(billed) };
  return { ...demand, outputTokens, outputFlexible: false, billed: bounds };
}

/** Pools, holds and rows know an attempt by this. */
export function attemptId(requestId: string, attempt: number): string {
  return attempt === 1 ? requestId : `${requestId}.${attempt}`;
}

/** The request that an attempt is of. */
export function requestOf(attempt: string): string {
  return attempt.includes('.') ? attempt.replace(/\.\d+$/, '') : attempt;
}

function outputTokensOf({ positions }: BilledSoFar): number {
  return positions.reduce((sum, released) => sum + released, 0);
}

/** The part of an attempt's bill that no attempt before was billed, and what all were billed with it. */
export function unbilledPart(before: BilledSoFar, bill: Bill): { bill: Bill; billed: BilledSoFar } {
  const { inputTokens, cachedInputTokens, outcome, positions = [] } = bill;
  const choices = Math.max(before.positions.length, positions.length);
  const all = Array.from({ length: choices }, (_, i) => Math.max(before.positions[i] ?? 0, positions[i] ?? 0));
  const billed = { inputTokens: Math.max(before.inputTokens, inputTokens), positions: all };
  const input = billed.inputTokens - before.inputTokens;
  return {
    billed,
    bill: {
      outcome,
      inputTokens: input,
      cachedInputTokens: Math.min(cachedInputTokens, input),
      outputTokens: outputTokensOf(billed) - outputTokensOf(before),
    },
  };
}
