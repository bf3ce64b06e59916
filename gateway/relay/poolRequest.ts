// One signed exchange with a pool, and how its failures are told apart: what matters for the bill is whether the pool may have taken
// the request on. `refused` and `never_sent` say surely not; `broken` says nobody here knows, and the pool's journal decides.
import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { type WireError, wireError } from '../../pool/wire/events.ts';
import { type SignedContext, signRequest, verifyAnswer } from '../../pool/wire/signing.ts';
import type { Clock, RandomBytes } from '../clock.ts';

export interface PoolTarget {
  id: string;
  /** Without a slash at its end. */
  url: string;
  keyId: string;
  secret: KeyObject;
}

/** What an exchange needs of an answer; the web's Response is one. */
export interface PoolResponse {
  ok: boolean;
  status: number;
  headers: { get(name: string): string | null };
  /** To be read once; leaving it early ends the connection. */
  body: AsyncIterable<Uint8Array> | null;
}

/** What an exchange needs of `fetch`, which is one of these. Rejects with NotConnected where the host can tell. */
export type PoolFetch = (
  url: string,
  init: {
    method: string;
    headers: Record<string, string>;
    redirect: 'manual';
    body?: Uint8Array<ArrayBuffer>;
    signal?: AbortSignal;
  },
) => Promise<PoolResponse>;

export interface PoolPorts {
  fetch: PoolFetch;
  clock: Clock;
  random: RandomBytes;
}

export type PoolFailure =
  /** `ours`: it failed in this process, and says nothing of the pool. */
  | { kind: 'never_sent'; reason: string; ours?: true }
  | { kind: 'broken'; reason: string }
  | { kind: 'refused'; error: WireError };

/** There was never a connection that the request could have left over. The cause says why. */
export class NotConnected extends Error {
  override readonly name = 'NotConnected';

  constructor(cause: Error) {
    super('no connection came about', { cause });
  }
}

export class PoolRequestError extends Error {
  override readonly name = 'PoolRequestError';
  readonly failure: PoolFailure;

  constructor(failure: PoolFailure) {
    super(failure.kind === 'refused' ? failure.error.message : failure.reason);
    this.failure = failure;
  }
}

export function broken(reason: string): PoolRequestError {
  return new PoolRequestError({ kind: 'broken', reason });
}

export type ServiceGrant = Pick<SignedContext, 'priority' | 'weight' | 'kvFloorShare' | 'cacheScope' | 'cacheSeal'>;
export type Grant = Pick<SignedContext, 'tenant' | 'requestId' | 'deadlineMs' | 'holdTokens' | 'leaseMs'> &
  ServiceGrant;

export interface Sent {
  response: PoolResponse;
  nonce: string;
  signedAtMs: number;
}

/** Longest JSON answer that is read: a full page of receipts with many choices each. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

const ENCODER = new TextEncoder();

const errorAnswer = z.object({
  error: wireError.omit({ status: true, retry_after_ms: true }),
});

/** Sends; the answer's signature is not checked yet. Throws PoolRequestError (never_sent or broken). */
export async function send(
  ports: PoolPorts,
  pool: PoolTarget,
  request: { method: string; path: string; body?: unknown; grant?: Grant; signal?: AbortSignal },
): Promise<Sent> {
  const body = request.body === undefined ? new Uint8Array() : ENCODER.encode(JSON.stringify(request.body));
  const nonce = Buffer.from(ports.random(16)).toString('hex');
  const signedAtMs = ports.clock.now();
  const { method, path, grant, signal } = request;
  const context = { method, path, timeMs: signedAtMs, nonce, keyId: pool.keyId, poolId: pool.id, ...grant };
  const headers = { ...signRequest(pool.secret, context, body), 'content-type': 'application/json' };
  try {
    const response = await ports.fetch(pool.url + path, {
      method,
      headers,
      redirect: 'manual', // unsigned, so never followed: an answer like any other that is not the pool's
      ...(body.length > 0 && { body }),
      ...(signal && { signal }),
    });
    return { response, nonce, signedAtMs };
  } catch (error) {
    const failure = failureOf(error);
    throw failure.kind === 'broken' && signal?.aborted
      ? broken('the request was aborted')
      : new PoolRequestError(failure);
  }
}

/** The signed JSON answer. Throws PoolRequestError: `refused` for a signed error, else `broken`. */
export async function readAnswer<T>(pool: PoolTarget, sent: Sent, schema: z.ZodType<T>): Promise<T> {
  const { response, nonce } = sent;
  const body = await readBounded(response);
  const signature = response.headers.get('hearth-signature') ?? '';
  if (!verifyAnswer(pool.secret, nonce, response.status, body, signature)) {
    const hint = response.status === 401 ? '; does it know this key id and secret?' : '';
    throw broken(`the pool's answer (${response.status}) is not signed by its key${hint}`);
  }
  const value = parseJson(body);
  if (response.ok) {
    const parsed = schema.safeParse(value);
    if (!parsed.success) throw broken('the answer has another shape than this gateway knows');
    return parsed.data;
  }
  const parsed = errorAnswer.safeParse(value);
  if (!parsed.success) throw broken(`the pool answered ${response.status} without an error`);
  const retry = Number(
    response.headers.get('retry-after-ms') ?? Number(response.headers.get('retry-after') ?? Number.NaN) * 1000,
  );
  const error = { ...parsed.data.error, status: response.status };
  throw new PoolRequestError({
    kind: 'refused',
    error: Number.isFinite(retry) && retry > 0 ? { ...error, retry_after_ms: retry } : error,
  });
}

async function readBounded(response: PoolResponse): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const piece of response.body ?? []) {
      size += piece.length;
      if (size > MAX_ANSWER_BYTES) throw broken(`the answer has more than ${MAX_ANSWER_BYTES} bytes`);
      pieces.push(piece);
    }
  } catch (error) {
    throw error instanceof PoolRequestError ? error : broken('the connection broke during the answer');
  }
  return Buffer.concat(pieces);
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    throw broken('the answer is not JSON');
  }
}

/** What would keep this process from any pool: no file descriptor, memory or local port is left. */
const OWN_SHORTAGES: ReadonlySet<unknown> = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL']);
/** Calls of the system before anything can be written. */
const BEFORE_WRITING: ReadonlySet<unknown> = new Set(['connect', 'getaddrinfo']);

/** Of what `fetch` threw. Whatever keeps a connection from coming about, the pool can't have accepted anything. */
export function failureOf(thrown: unknown): PoolFailure {
  const cause: unknown = thrown instanceof Error ? (thrown.cause ?? thrown) : null;
  const { code, syscall } = (cause ?? {}) as { code?: unknown; syscall?: unknown };
  const unsent = thrown instanceof NotConnected || code === 'ECONNREFUSED' || BEFORE_WRITING.has(syscall);
  if (!unsent) return { kind: 'broken', reason: 'the connection failed' };
  const reason = `no connection came about (${String(code ?? (cause instanceof Error ? cause.message : 'unknown'))})`;
  return { kind: 'never_sent', reason, ...(OWN_SHORTAGES.has(code) && { ours: true }) };
}

export function isOurs(error: unknown): boolean {
  return error instanceof PoolRequestError && error.failure.kind === 'never_sent' && error.failure.ours === true;
}
