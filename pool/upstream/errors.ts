// What a foreign server says and does wrong, as the pool's own errors. A request that it refuses is refused in its words, bounded; what is
// wrong between it and this pool is never the client's fault. Its words are in no log: they may repeat a prompt.
import { invalidRequest, overloaded, PoolError, poolNotReady } from '../errors.ts';
import { UpstreamFailed, UpstreamRefused } from './connection.ts';
import { type Make, recordIn } from './make.ts';

/** Of a refusal's text: validators like to repeat what was sent. */
const MAX_MESSAGE_CHARS = 500;
/** Where it names no time. */
const RETRY_AFTER_MS = 1000;

const TOO_LONG = /context (length|size|window)|max_model_len|max_total_tokens|maximum.{0,40}length|exceed_context/i;

/** 400: the make has no word for it. */
export function unsupported(make: Make, param: string): PoolError {
  return invalidRequest(
    `'${param}' is not supported by ${make.title}, which serves this model. Leave it out.`,
    param,
    'unsupported_parameter',
  );
}

/** 503: the engine or the way to it failed the request; another pool, or this one in a moment, can serve it. */
export function upstreamLost(): PoolError {
  return poolNotReady('The engine behind this pool failed under the request; try again.', RETRY_AFTER_MS);
}

/** What became of a request, or of a stream, that the upstream did not serve to its end. */
export function asPoolError(error: unknown): PoolError {
  if (error instanceof PoolError) return error;
  if (error instanceof UpstreamFailed) return upstreamLost();
  if (!(error instanceof UpstreamRefused)) throw error;
  const { status, body, retryAfterMs } = error;
  if (status === 400 || status === 413 || status === 422) return refusedRequest(body);
  // A server that names a time to come again has no room, whatever its word for that.
  if (isBusy(error) || (status === 503 && retryAfterMs !== null))
    return overloaded('The engine behind this pool has no room for more requests.', retryAfterMs ?? RETRY_AFTER_MS);
  return upstreamLost();
}

/** Something is wrong with the upstream, or with the way to it: not with the request. */
export function isFailure(error: unknown): boolean {
  if (!(error instanceof UpstreamRefused)) return error instanceof UpstreamFailed;
  return !isBusy(error) && ![400, 413, 422].includes(error.status);
}

/** It lives, and has no room. */
export function isBusy(error: unknown): boolean {
  return error instanceof UpstreamRefused && (error.status === 429 || error.status === 529);
}

/** An error in the middle of a stream, which has a status of its own or none. */
export function errorInStream(body: unknown): PoolError {
  const { code } = errorOf(body);
  const status = Number(code);
  return asPoolError(new UpstreamRefused(status >= 400 && status < 600 ? status : 500, body, null));
}

function refusedRequest(body: unknown): PoolError {
  const { message, param, type, code } = errorOf(body);
  const text = typeof message === 'string' ? message : 'The engine refuses this request.';
  const tooLong = [text, type, code].some((part) => typeof part === 'string' && TOO_LONG.test(part));
  return invalidRequest(
    text.length > MAX_MESSAGE_CHARS ? `${text.slice(0, MAX_MESSAGE_CHARS)}…` : text,
    typeof param === 'string' ? param : null,
    tooLong ? 'context_length_exceeded' : null,
  );
}

/** OpenAI's envelope, or its inside alone (SGLang, TensorRT-LLM, LMDeploy), or a text (TGI), or FastAPI's `detail`. */
function errorOf(body: unknown): Readonly<Record<string, unknown>> {
  const { error, error_type: type, detail, ...inside } = recordIn(body);
  if (typeof error === 'string') return { message: error, type };
  if (error !== undefined) return recordIn(error);
  if (typeof detail === 'string') return { message: detail };
  if (Array.isArray(detail)) return { message: detail.map((one) => String(recordIn(one).msg ?? '')).join('; ') };
  return inside;
}
