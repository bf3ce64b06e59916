// What the world can do wrong at a pool's door, as one typed error that already knows its HTTP answer. Messages carry the remedy
// and never a prompt, a completion or a key. Our own bugs are not made here: they surface as `internalError`, request id only.
import { invariant } from '../engine/invariant.ts';
import type { Refusal } from '../engine/request.ts';
import type { WireError } from './wire/events.ts';

/** Where the engine could not compute a time of its own. */
const DEFAULT_RETRY_AFTER_MS = 1000;

export class PoolError extends Error {
  override readonly name = 'PoolError';
  readonly wire: WireError;

  constructor(wire: WireError) {
    super(wire.message);
    invariant(wire.status >= 400 && wire.status < 600, 'an error needs an error status', { status: wire.status });
    this.wire = wire;
  }

  /** Label for logs and metrics: one of a closed set. */
  get label(): string {
    return this.wire.code ?? `status_${this.wire.status}`;
  }
}

/** 400: the request itself is wrong. `param` names the field, as a dotted path. */
export function invalidRequest(message: string, param: string | null, code: string | null = null): PoolError {
  return new PoolError({ status: 400, message, type: 'invalid_request_error', param, code });
}

/** 400: prompt and wanted output are longer than the model's context. */
export function contextExceeded(options: {
  context: number;
  promptTokens: number;
  maxTokens: number | null;
  param: string;
  atLeast?: boolean;
}): PoolError {
  const { context, promptTokens, maxTokens, param } = options;
  const prompt = `${options.atLeast ? 'at least ' : ''}${promptTokens}`;
  const asked =
    maxTokens === null
      ? `your prompt has ${prompt} tokens, which leaves no room for an answer`
      : `you requested ${options.atLeast ? 'at least ' : ''}${promptTokens + maxTokens} tokens (${prompt} in the prompt, ${maxTokens} in the completion)`;
  return invalidRequest(
    `This model's maximum context length is ${context} tokens. However, ${asked}. Please reduce the length of the ${param} or the completion.`,
    param,
    'context_length_exceeded',
  );
}

export function unauthorized(reason: string): PoolError {
  return new PoolError({
    status: 401,
    message: `The request is not accepted as signed: ${reason}.`,
    type: 'invalid_request_error',
    param: null,
    code: 'invalid_signature',
  });
}

export function notFound(message: string, code: 'model_not_found' | 'not_found', param: string | null): PoolError {
  return new PoolError({ status: 404, message, type: 'invalid_request_error', param, code });
}

export function tooLarge(limitBytes: number): PoolError {
  return new PoolError({
    status: 413,
    message: `The request body is larger than ${limitBytes} bytes. Send a shorter prompt, or raise the pool's maxBodyBytes.`,
    type: 'invalid_request_error',
    param: null,
    code: 'request_too_large',
  });
}

/** 409: this request id already has a receipt here; running it again could bill it twice. */
export function duplicateRequest(requestId: string): PoolError {
  return new PoolError({
    status: 409,
    message: `Request ${requestId} is running here, or has ended and is not acknowledged. Use a new request id.`,
    type: 'invalid_request_error',
    param: null,
    code: 'duplicate_request',
  });
}

/** 409: what began the request computes other bits than this pool's model does, so here it can't go on as it would have. */
export function fingerprintMismatch(model: string): PoolError {
  return new PoolError({
    status: 409,
    message: `The request was begun by another fingerprint than that of '${model}' here. Resume it where the fingerprint is equal.`,
    type: 'invalid_request_error',
    param: 'resume.fingerprint',
    code: 'fingerprint_mismatch',
  });
}

/** 503: refused at once because a bounded queue is full, or the pool is draining. */
export function overloaded(message: string, retryAfterMs: number): PoolError {
  return new PoolError({
    status: 503,
    message,
    type: 'server_error',
    param: null,
    code: 'overloaded',
    retry_after_ms: Math.max(1, Math.ceil(retryAfterMs)),
    resumable: true,
  });
}

/** The engine's refusal as an HTTP error. It doesn't know which field the prompt came in. */
export function refusalError(refusal: Refusal): PoolError {
  return refusal.code === 'overloaded'
    ? overloaded(refusal.message, refusal.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS)
    : invalidRequest(refusal.message, null, refusal.code);
}

/** 503: the pool stopped under a running request. What was released before is in the receipt. */
export function poolStopping(message: string): PoolError {
  return new PoolError({
    status: 503,
    message,
    type: 'server_error',
    param: null,
    code: 'no_pool_ready',
    resumable: true,
  });
}

/** The caller left: nobody is there to be answered, or to go on elsewhere. */
export function requestClosed(): PoolError {
  return new PoolError({
    status: 503,
    message: 'The client closed the request.',
    type: 'server_error',
    param: null,
    code: 'no_pool_ready',
  });
}

/** 503: the model is not warm, and the caller doesn't wait for it. */
export function poolNotReady(message: string, retryAfterMs: number): PoolError {
  return new PoolError({ ...poolStopping(message).wire, retry_after_ms: Math.max(1, Math.ceil(retryAfterMs)) });
}

/** 503: the GPU was lost, or the engine with it; another pool, or this one in a moment, can serve the request. */
export function engineLost(): PoolError {
  return poolNotReady('The engine of this pool was lost under the request; try again.', DEFAULT_RETRY_AFTER_MS);
}

/** 503: nothing came from the gateway for as long as its request allows. Where it is there after all, the request may go on. */
export function gatewaySilent(): PoolError {
  return poolNotReady('The gateway of this request has not been heard of for too long.', DEFAULT_RETRY_AFTER_MS);
}

/** 409: what is asked of the pool does not go with its state. */
export function wrongState(message: string): PoolError {
  return new PoolError({ status: 409, message, type: 'invalid_request_error', param: null, code: 'wrong_state' });
}

/** 504: the request's signed deadline passed. */
export function deadlineExceeded(): PoolError {
  return new PoolError({
    status: 504,
    message:
      'The request reached its deadline before it was finished. Ask for fewer tokens, or raise the gateway timeout.',
    type: 'server_error',
    param: null,
    code: 'deadline_exceeded',
  });
}

/** 500: our own bug, or a pool that can no longer account for what it releases. The request id, nothing else. */
export function internalError(requestId: string): PoolError {
  return new PoolError({
    status: 500,
    message: `Internal error in request ${requestId}.`,
    type: 'server_error',
    param: null,
    code: 'internal_error',
  });
}
