// The installation's secrets around keys and caches, derived once: what verifies a key's tag, what peppers its hash, and what
// derives the tenants' caches. The namespace secret never changes in an installation's life; peppers rotate.
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { invariant } from '../invariant.ts';
import type { Pepper } from './apiKey.ts';
import { TenantCaches } from './cacheScope.ts';
import { MAX_PRESENTED_KEYS, PresentedKeys } from './presentedKeys.ts';

export interface Keyring {
  adminKey: string;
  tagSecret: KeyObject;
  /** At least one. */
  peppers: readonly Pepper[];
  newestPepper: Pepper;
  /** Claims of projects' keys. */
  presented: PresentedKeys;
  /** Caches are derived from this and a tenant's own salt (cacheScope.ts). */
  cacheSecret: KeyObject;
  /** The same, remembered. */
  tenantCaches: TenantCaches;
  /** Enrolled pools' keys are derived from this (pools/poolKey.ts). */
  poolSecret: KeyObject;
  /** Digests of idempotency keys and bodies are keyed by this and a tenant's own salt (answerSeal.ts). */
  idempotencySecret: KeyObject;
}

/** `presentedKeys`: so many are remembered (presentedKeys.ts). */
export function createKeyring(
  secrets: { adminKey: string; namespaceSecret: KeyObject; peppers: readonly Pepper[] },
  presentedKeys = MAX_PRESENTED_KEYS,
): Keyring {
  const derive = (purpose: string) =>
    createSecretKey(createHmac('sha256', secrets.namespaceSecret).update(purpose).digest());
  const newestPepper = [...secrets.peppers].sort((a, b) => b.version - a.version)[0];
  invariant(newestPepper, 'a keyring needs a pepper');
  const tagSecret = derive('hearth-key-tag-1');
  const cacheSecret = derive('hearth-cache-scope-2');
  return {
    adminKey: secrets.adminKey,
    tagSecret,
    presented: new PresentedKeys(tagSecret, secrets.peppers, presentedKeys),
    peppers: secrets.peppers,
    newestPepper,
    cacheSecret,
    tenantCaches: new TenantCaches(cacheSecret),
    poolSecret: derive('hearth-pool-key-1'),
    idempotencySecret: derive('hearth-idempotency-1'),
  };
}
