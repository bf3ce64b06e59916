// Decides whether a request comes from our gateway and may run here: a valid signature, for this pool, made after this process
// started (whatever was signed before may have been served by the process that died), with a nonce never used before.
import { overloaded, type PoolError, unauthorized } from './errors.ts';
import type { NonceMemory } from './nonces.ts';
import { type SignedContext, type SigningSecret, verifyRequest } from './wire/signing.ts';

export interface Identity {
  poolId: string;
  startedAtMs: number;
  /** By key id. Several at once, so that keys can rotate. */
  secrets: ReadonlyMap<string, SigningSecret>;
}

/** A request whose signature held, with its body. */
export interface Signed {
  context: SignedContext;
  secret: SigningSecret;
  body: Uint8Array;
}

export interface IncomingRequest {
  method: string;
  /** Path with query, exactly as sent. */
  path: string;
  header: (name: string) => string | undefined;
  body: Uint8Array;
}

export type Authenticated =
  | { ok: true; context: SignedContext; secret: SigningSecret }
  | { ok: false; error: PoolError };

export function authenticate(
  identity: Identity,
  nonces: NonceMemory,
  request: IncomingRequest,
  nowMs: number,
): Authenticated {
  const verified = verifyRequest((keyId) => identity.secrets.get(keyId), request, nowMs);
  if (!verified.ok) return { ok: false, error: unauthorized(verified.reason) };
  const { context } = verified;
  const secret = identity.secrets.get(context.keyId);
  if (!secret) return { ok: false, error: unauthorized('signature does not match') };
  if (context.poolId !== identity.poolId)
    return { ok: false, error: unauthorized('it is signed for another pool; check the pool id in the gateway') };
  if (context.timeMs < identity.startedAtMs)
    return { ok: false, error: unauthorized('it was signed before this pool started; sign it again') };
  const verdict = nonces.admit(context.keyId, context.nonce, nowMs);
  if (verdict === 'replayed') return { ok: false, error: unauthorized('its nonce was used before; sign it again') };
  if (verdict === 'full')
    return { ok: false, error: overloaded('Too many requests within a minute for this pool.', 1000) };
  return { ok: true, context, secret };
}
