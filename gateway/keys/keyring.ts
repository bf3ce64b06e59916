// The installation's secrets around keys and caches, derived once: what verifies a key's tag, what peppers its hash, and what
// makes a tenant's cache scope. The namespace secret never changes in an installation's life; peppers rotate.
import { createHmac } from 'node:crypto';
import { invariant } from '../invariant.ts';
import type { Pepper } from './apiKey.ts';

export interface Keyring {
  adminKey: string;
  tagSecret: Uint8Array;
  /** At least one. */
  peppers: readonly Pepper[];
  newestPepper: Pepper;
  /** Namespace of a tenant's prefix cache: unguessable, and not linked to its id by who sees it. */
  cacheScope(tenant: string): string;
}

export function createKeyring(secrets: {
  adminKey: string;
  namespaceSecret: Uint8Array;
  peppers: readonly Pepper[];
}): Keyring {
  const derive = (purpose: string) => createHmac('sha256', secrets.namespaceSecret).update(purpose).digest();
  const scopeSecret = derive('hearth-cache-scope-1');
  const newestPepper = [...secrets.peppers].sort((a, b) => b.version - a.version)[0];
  invariant(newestPepper, 'a keyring needs a pepper');
  return {
    adminKey: secrets.adminKey,
    tagSecret: derive('hearth-key-tag-1'),
    peppers: secrets.peppers,
    newestPepper,
    cacheScope: (tenant) => createHmac('sha256', scopeSecret).update(tenant).digest('hex').slice(0, 32),
  };
}
