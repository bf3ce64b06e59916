// Gateway and pool prove themselves to each other by HMAC-SHA-256 over a canonical list, in both directions: the request with
// everything that decides what it may do, each event of the answer with its place in the stream. Pure: clock and nonce come in.
import { createHmac, hash, type KeyObject, timingSafeEqual } from 'node:crypto';

/** The pool key's 32 bytes. As a KeyObject, which a process that signs much makes once, a signature costs a fifth. */
export type SigningSecret = Uint8Array | KeyObject;

/** A signed request is refused when its time is further than this from the pool's clock. Bounds the nonce memory too. */
export const MAX_CLOCK_SKEW_MS = 30_000;

/** What a request is allowed to do. Every field is signed; an absent one is signed as the empty string. */
export interface SignedContext {
  /** Upper-case HTTP method and path with query, exactly as sent. */
  method: string;
  path: string;
  /** Unix milliseconds. */
  timeMs: number;
  /** 32 hex digits, never used twice. */
  nonce: string;
  keyId: string;
  poolId: string;
  tenant?: string;
  requestId?: string;
  priority?: number;
  /** Unix milliseconds after which the pool must not release another token. Shorter than the gateway's hold. */
  deadlineMs?: number;
  /** Tokens reserved for this request: prompt + all output. The pool never releases more. */
  holdTokens?: number;
  /**
   * The gateway asks this pool something, signed with this key, at least so often, in milliseconds, for as long as the request runs. A pool
   * that hears nothing for longer ends the request. Absent: it doesn't say.
   */
  leaseMs?: number;
  /** Namespace of the prefix cache, derived by the gateway. Absent: the request neither reads nor writes the cache. */
  cacheScope?: string;
  /** 32 bytes in hex that seal the namespace's blocks outside the pool's process. The pool keeps it in memory alone. */
  cacheSeal?: string;
  /** The tenant's share of service and cache beside the others'; > 0. */
  weight?: number;
  /** Part of the KV cache, 0 to 1, that others' demand never takes from the tenant. */
  kvFloorShare?: number;
}

const FIELDS = [
  ['hearth-time', 'timeMs'],
  ['hearth-nonce', 'nonce'],
  ['hearth-key-id', 'keyId'],
  ['hearth-pool-id', 'poolId'],
  ['hearth-tenant', 'tenant'],
  ['hearth-request-id', 'requestId'],
  ['hearth-priority', 'priority'],
  ['hearth-deadline', 'deadlineMs'],
  ['hearth-hold', 'holdTokens'],
  ['hearth-lease', 'leaseMs'],
  ['hearth-cache-scope', 'cacheScope'],
  ['hearth-cache-seal', 'cacheSeal'],
  ['hearth-weight', 'weight'],
  ['hearth-kv-floor', 'kvFloorShare'],
] as const;

const INTEGERS: ReadonlySet<string> = new Set(['timeMs', 'priority', 'deadlineMs', 'holdTokens', 'leaseMs']);
const DECIMALS: ReadonlySet<string> = new Set(['weight', 'kvFloorShare']);

function canonical(context: SignedContext, body: Uint8Array): string {
  const digest = hash('sha256', body);
  const values = FIELDS.map(([, field]) => String(context[field] ?? ''));
  return JSON.stringify(['hearth-request-3', context.method, context.path, digest, ...values]);
}

function mac(secret: SigningSecret, text: string): string {
  return createHmac('sha256', secret).update(text).digest('hex');
}

function equalHex(a: string, b: string): boolean {
  const left = Buffer.from(a, 'utf8');
  const right = Buffer.from(b, 'utf8');
  return left.length === right.length && timingSafeEqual(left, right);
}

/** Headers that carry the context and its signature. */
export function signRequest(secret: SigningSecret, context: SignedContext, body: Uint8Array): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [header, field] of FIELDS) {
    const value = context[field];
    if (value !== undefined) headers[header] = String(value);
  }
  headers['hearth-signature'] = mac(secret, canonical(context, body));
  return headers;
}

export type Verified = { ok: true; context: SignedContext } | { ok: false; reason: string };

/**
 * Checks a request's signature and time. The caller still has to refuse a nonce that it has seen within 2 × MAX_CLOCK_SKEW_MS,
 * a pool id that is not its own, and a time before its own start.
 */
export function verifyRequest(
  secretOf: (keyId: string) => SigningSecret | undefined,
  request: { method: string; path: string; header: (name: string) => string | undefined; body: Uint8Array },
  nowMs: number,
): Verified {
  const raw: Record<string, string | number> = {};
  for (const [header, field] of FIELDS) {
    const value = request.header(header);
    if (value === undefined || value === '') continue;
    if (INTEGERS.has(field)) {
      if (!/^-?\d{1,16}$/.test(value)) return { ok: false, reason: `${header} is not an integer` };
      raw[field] = Number(value);
    } else if (DECIMALS.has(field)) {
      if (!/^\d{1,6}(\.\d{1,6})?$/.test(value)) return { ok: false, reason: `${header} is not a decimal number` };
      raw[field] = Number(value);
    } else raw[field] = value;
  }
  const { timeMs, nonce, keyId, poolId } = raw;
  if (
    typeof timeMs !== 'number' ||
    typeof nonce !== 'string' ||
    typeof keyId !== 'string' ||
    typeof poolId !== 'string'
  )
    return { ok: false, reason: 'hearth-time, hearth-nonce, hearth-key-id and hearth-pool-id are required' };
  if (!/^[0-9a-f]{32}$/.test(nonce)) return { ok: false, reason: 'hearth-nonce is not 32 hex digits' };
  const context: SignedContext = { ...raw, method: request.method, path: request.path, timeMs, nonce, keyId, poolId };
  const secret = secretOf(keyId);
  const given = request.header('hearth-signature');
  if (!secret || !given || !equalHex(mac(secret, canonical(context, request.body)), given))
    return { ok: false, reason: 'signature does not match' };
  if (Math.abs(nowMs - timeMs) > MAX_CLOCK_SKEW_MS)
    return {
      ok: false,
      reason: `time is more than ${MAX_CLOCK_SKEW_MS} ms from this pool's clock; synchronise the clocks`,
    };
  return { ok: true, context };
}

/**
 * Signature of the `sequence`-th server-sent event (from 0) of the answer to the request with this nonce, sent as its `id:` field. `data`:
 * what left the pool together, one JSON object a line.
 */
export function signEvent(secret: SigningSecret, nonce: string, sequence: number, data: string): string {
  // Neither a nonce nor a number has a line end, so that the parts can't be taken for one another; what is long is not quoted once more.
  return mac(secret, `hearth-event-2\n${nonce}\n${sequence}\n${data}`);
}

export function verifyEvent(
  secret: SigningSecret,
  nonce: string,
  sequence: number,
  data: string,
  signature: string,
): boolean {
  return equalHex(signEvent(secret, nonce, sequence, data), signature);
}

/** Signature of a whole JSON answer, sent as the header `hearth-signature`. */
export function signAnswer(secret: SigningSecret, nonce: string, status: number, body: Uint8Array): string {
  const digest = hash('sha256', body);
  return mac(secret, JSON.stringify(['hearth-answer-1', nonce, status, digest]));
}

export function verifyAnswer(
  secret: SigningSecret,
  nonce: string,
  status: number,
  body: Uint8Array,
  signature: string,
): boolean {
  return equalHex(signAnswer(secret, nonce, status, body), signature);
}
