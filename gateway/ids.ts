// Identifiers that the gateway draws itself. A request id is never taken from the client: it keys the hold and the bill.
import type { RandomBytes } from './clock.ts';

export type IdPrefix = 'proj' | 'svc_acct' | 'key' | 'prefix' | 'price' | 'audit_log' | 'pool_key';

/** Bytes of a project id's random part; an API key carries exactly these. */
export const PROJECT_ID_BYTES = 12;

/** `${prefix}_` and 24 hex digits. */
export function drawId(prefix: IdPrefix, random: RandomBytes): string {
  return `${prefix}_${Buffer.from(random(PROJECT_ID_BYTES)).toString('hex')}`;
}

/** `req_` and 24 hex digits, ascending with time: rows that come one after another stand together in every index, however large. */
export function drawRequestId(nowMs: number, random: RandomBytes): string {
  const time = Math.floor(nowMs).toString(16).padStart(12, '0');
  return `req_${time}${Buffer.from(random(6)).toString('hex')}`;
}

export function projectIdOf(raw: Uint8Array): string {
  return `proj_${Buffer.from(raw).toString('hex')}`;
}

/** The random part of a project id; undefined when the text is no project id. */
export function projectIdBytes(id: string): Uint8Array | undefined {
  return /^proj_[0-9a-f]{24}$/.test(id) ? Buffer.from(id.slice(5), 'hex') : undefined;
}
