// The installation's secrets around keys and caches, derived once: what verifies a key's tag, what peppers its hash, and what
// derives the tenants' caches. The namespace secret never changes in an installation's life; peppers rotate.
import { createHmac } from 'node:crypto';
import { invariant } from '../invariant.ts';
import type { Pepper } from './apiKey.ts';

export interface Keyring {
  adminKey: string;
  tagSecret: Uint8Array;
  /** At least one. */
  peppers: readonly Pepper[];
  newestPepper: Pepper;
  /** Caches are derived from this and a tenant's own salt (cacheScope.ts). */
  cacheSecret: Uint8Array;
  /** Enrolled pools' keys are derived from this (pools/poolKey.ts). */
  poolSecret: Uint8Array;
  /** Digests of idempotency keys and bodies are keyed by this and a tenant's own salt (answerSeal.ts). */
  idempotencySecret: Uint8Array;
}

export function createKeyring(secrets: {
  adminKey: string;
  namespaceSecret: Uint8Array;
  peppers: readonly Pepper[];
}): Keyring {
  const derive = (purpose: string) => createHmac('sha256', secrets.namespaceSecret).update(purpose).digest();
  const newestPepper = [...secrets.peppers].sort((a, b) => b.version - a.version)[0];
  invariant(newestPepper, 'a keyring needs a pepper');
  return {
    adminKey: secrets.adminKey,
    tagSecret: derive('hearth-key-tag-1'),
    peppers: secrets.peppers,
    newestPepper,
    cacheSecret: derive('hearth-cache-scope-2'),
    poolSecret: derive('hearth-pool-key-1'),
    idempotencySecret: derive('hearth-idempotency-1'),
  };
}
