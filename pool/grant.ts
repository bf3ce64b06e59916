// What the signed headers of an inference request allow it: bounds, share and cache, checked. The signature says that they are the
// gateway's; this says that they make sense.
import { invalidRequest } from './errors.ts';
import type { Grant, Inference } from './plan.ts';
import type { SignedContext } from './wire/signing.ts';

/** Longest request id and tenant that a receipt can carry. */
const MAX_NAME_CHARS = 128;

/** The gateway's signed priority, or else what the request says among the requests of its own tenant. */
export function withPriority(grant: Grant, context: SignedContext, { request }: Inference): Grant {
  if (context.priority === undefined) grant.priority = request.priority ?? 0;
  return grant;
}

/** The signed allowance of an inference request. Throws PoolError (400) naming the header that is missing. */
export function grantOf(context: SignedContext): Grant {
  const { requestId, tenant, deadlineMs, holdTokens } = context;
  const name = (value: string | undefined, header: string): string => {
    if (value === undefined || value.length > MAX_NAME_CHARS)
      throw invalidRequest(
        `An inference request needs the header ${header}, of at most ${MAX_NAME_CHARS} characters.`,
        header,
      );
    return value;
  };
  const number = (value: number | undefined, header: string): number => {
    if (value === undefined || value < 0)
      throw invalidRequest(`An inference request needs the header ${header}.`, header);
    return value;
  };
  return {
    requestId: name(requestId, 'hearth-request-id'),
    tenant: name(tenant, 'hearth-tenant'),
    priority: context.priority ?? 0,
    deadlineMs: number(deadlineMs, 'hearth-deadline'),
    holdTokens: number(holdTokens, 'hearth-hold'),
    weight: weightOf(context),
    account: accountOf(context),
    cache: cacheOf(context),
  };
}

function weightOf({ weight = 1 }: SignedContext): number {
  if (weight > 0) return weight;
  throw invalidRequest('The header hearth-weight needs a number above 0.', 'hearth-weight');
}

/** Throws PoolError (400) for a floor that is no share. */
function accountOf(context: SignedContext): Grant['account'] {
  const { tenant = '', kvFloorShare = 0 } = context;
  if (kvFloorShare > 1)
    throw invalidRequest('The header hearth-kv-floor needs a share from 0 to 1.', 'hearth-kv-floor');
  return { name: tenant, weight: weightOf(context), floorShare: kvFloorShare };
}

/** Throws PoolError (400) for a seal that is no key. */
function cacheOf(context: SignedContext): Grant['cache'] {
  const { cacheScope, cacheSeal } = context;
  if (cacheScope === undefined) return null;
  if (cacheScope.length > MAX_NAME_CHARS)
    throw invalidRequest(
      `The header hearth-cache-scope has more than ${MAX_NAME_CHARS} characters.`,
      'hearth-cache-scope',
    );
  if (cacheSeal !== undefined && !/^[0-9a-f]{64}$/.test(cacheSeal))
    throw invalidRequest('The header hearth-cache-seal needs 32 bytes as 64 hex digits.', 'hearth-cache-seal');
  return { scope: { namespace: cacheScope, sealKey: cacheSeal === undefined ? null : sealBytes(cacheSeal) } };
}

/** In a buffer of its own: it crosses a thread border, and one from Node's pool would take its neighbours along. */
function sealBytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}
