// What the world can do wrong at the gateway, as one typed error that already knows its HTTP answer (the table of errors in the
// API documentation). Messages carry the remedy and never a prompt, a completion or a key.

import type { WireError } from '../pool/wire/events.ts';
import { invariant } from './invariant.ts';

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export interface ErrorSpec {
  status: number;
  type: string;
  code: string | null;
  param?: string | null;
  message: string;
  /** Sent as Retry-After (whole seconds) and retry-after-ms. */
  retryAfterMs?: number;
  /** Sent as x-should-retry: false, which the official clients obey. */
  neverRetry?: boolean;
  /** Further headers: where the caller's limits stand. */
  headers?: Readonly<Record<string, string>>;
}

export class GatewayError extends Error {
  override readonly name = 'GatewayError';
  readonly spec: ErrorSpec;

  constructor(spec: ErrorSpec) {
    super(spec.message);
    invariant(spec.status >= 400 && spec.status < 600, 'an error needs an error status', { status: spec.status });
    this.spec = spec;
  }

  body(): ErrorBody {
    const { message, type, param, code } = this.spec;
    return { error: { message, type, param: param ?? null, code } };
  }

  headers(): Record<string, string> {
    const { retryAfterMs, neverRetry } = this.spec;
    return {
      ...this.spec.headers,
      ...(retryAfterMs !== undefined && {
        'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))),
        'retry-after-ms': String(Math.max(1, Math.ceil(retryAfterMs))),
      }),
      ...(neverRetry && { 'x-should-retry': 'false' }),
    };
  }
}

export function invalidRequest(message: string, param: string | null, code: string | null = null): GatewayError {
  return new GatewayError({ status: 400, type: 'invalid_request_error', code, param, message });
}

export function invalidApiKey(message: string): GatewayError {
  return new GatewayError({ status: 401, type: 'invalid_request_error', code: 'invalid_api_key', message });
}

export function insufficientPermissions(): GatewayError {
  return new GatewayError({
    status: 403,
    type: 'permission_error',
    code: 'insufficient_permissions',
    message: 'This route needs an admin key (sk-admin-…); a project key was sent.',
  });
}

export function notFound(what: string): GatewayError {
  return new GatewayError({
    status: 404,
    type: 'invalid_request_error',
    code: 'not_found',
    message: `${what} does not exist.`,
  });
}

export function modelNotFound(model: string): GatewayError {
  return new GatewayError({
    status: 404,
    type: 'invalid_request_error',
    code: 'model_not_found',
    param: 'model',
    message: `The model '${model.slice(0, 256)}' does not exist or you do not have access to it. GET /v1/models lists what is served.`,
  });
}

export function modelNotAllowed(model: string): GatewayError {
  return new GatewayError({
    status: 403,
    type: 'permission_error',
    code: 'model_not_allowed',
    param: 'model',
    message: `This key may not use the model '${model.slice(0, 256)}'. GET /v1/models lists what it may use.`,
  });
}

/** Its first attempt runs, or what became of it is not known yet. */
export function idempotencyInProgress(): GatewayError {
  return new GatewayError({
    status: 409,
    type: 'invalid_request_error',
    code: 'idempotency_in_progress',
    message: 'A request with this Idempotency-Key is in progress. Retry: its answer is given again once it is there.',
    retryAfterMs: 1000,
  });
}

export function idempotencyKeyReused(): GatewayError {
  return new GatewayError({
    status: 422,
    type: 'invalid_request_error',
    code: 'idempotency_key_reused',
    message: 'This Idempotency-Key was sent with another request before. Send each request under a key of its own.',
    neverRetry: true,
  });
}

export function idempotencyExhausted(attempts: number): GatewayError {
  return new GatewayError({
    status: 409,
    type: 'invalid_request_error',
    code: 'idempotency_attempts_exhausted',
    message: `The request of this Idempotency-Key did not end well in ${attempts} attempts. Send it under a new key.`,
    neverRetry: true,
  });
}

export function bodyTooLarge(limitBytes: number): GatewayError {
  return new GatewayError({
    status: 413,
    type: 'invalid_request_error',
    code: 'request_too_large',
    message: `The request body is larger than ${limitBytes} bytes. Send a shorter prompt, or fewer prompts per request.`,
  });
}

export function noPoolReady(model: string): GatewayError {
  return new GatewayError({
    status: 503,
    type: 'server_error',
    code: 'no_pool_ready',
    message: `No pool that serves '${model}' is ready. It may be starting: retry in a few seconds.`,
    retryAfterMs: 2000,
  });
}

export function overloaded(message: string, retryAfterMs: number): GatewayError {
  return new GatewayError({ status: 503, type: 'server_error', code: 'overloaded', message, retryAfterMs });
}

/** SQLite's primary result codes for a disk that can't be written now: read-only, failing, full. */
const STORAGE_CODES: ReadonlySet<number> = new Set([8, 10, 13]);

/** The ledger's disk refused: nothing was reserved or booked, and the same request may pass once there is room. Otherwise null. */
export function storageFailed(error: Error): GatewayError | null {
  const code = 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : 0;
  return STORAGE_CODES.has(code)
    ? overloaded("The ledger can't be written at the moment. Retry in a few seconds.", 5000)
    : null;
}

/** The connection to the pool broke, or what came over it can't be trusted. */
export function poolFailed(): GatewayError {
  return new GatewayError({
    status: 503,
    type: 'server_error',
    code: 'no_pool_ready',
    message: 'The pool that served this request failed. Only what it had released before is billed. Retry.',
    retryAfterMs: 2000,
  });
}

export function internalError(requestId: string): GatewayError {
  return new GatewayError({
    status: 500,
    type: 'server_error',
    code: 'internal_error',
    message: `Internal error. Request id: ${requestId}.`,
  });
}

/** A pool's refusal as the client's answer. What only a wrong gateway can cause is an internal error, not the client's fault. */
export function fromPool(error: WireError, requestId: string): GatewayError {
  const { status, message, type, param, code, retry_after_ms } = error;
  if (status === 401 || status === 409 || status === 500 || code === 'hold_too_small') return internalError(requestId);
  return new GatewayError({
    status,
    message,
    type,
    param,
    code,
    ...(retry_after_ms !== undefined && { retryAfterMs: retry_after_ms }),
  });
}
