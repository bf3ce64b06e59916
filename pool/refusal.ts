// The engine's refusal as the HTTP error that goes with it.
import type { Refusal } from '../engine/request.ts';
import { invalidRequest, overloaded, type PoolError } from './errors.ts';

/** Where the engine could not compute a time of its own. */
const DEFAULT_RETRY_AFTER_MS = 1000;

export function refusalError(refusal: Refusal, param: string | null): PoolError {
  return refusal.code === 'overloaded'
    ? overloaded(refusal.message, refusal.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS)
    : invalidRequest(refusal.message, param, refusal.code);
}
