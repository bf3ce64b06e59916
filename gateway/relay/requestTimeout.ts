// How long a client waits for its request, where it says so: then nothing is computed for it any longer than that, and among the waiting requests of
// its tenant that of the nearest deadline goes first.
import { invalidRequest } from '../errors.ts';

export const TIMEOUT_HEADER = 'x-request-timeout-ms';

/** Milliseconds; null: none was sent. Throws GatewayError (400). */
export function requestTimeoutOf({ headers }: Request): number | null {
  const text = headers.get(TIMEOUT_HEADER);
  if (text === null) return null;
  const timeoutMs = Number(text);
  if (/^\d{1,9}$/.test(text) && timeoutMs > 0) return timeoutMs;
  throw invalidRequest(`${TIMEOUT_HEADER} must be whole milliseconds, 1 to 999999999.`, TIMEOUT_HEADER);
}
