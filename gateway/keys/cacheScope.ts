// Which prefix cache a request uses: a namespace that nobody can guess or link to a tenant, and the key that seals its blocks outside
// a pool's process. Both come from the installation's secret and the tenant's own random salt (HKDF, RFC 5869). The salt stands in
// the directory alone; once it is deleted, nothing left anywhere opens what the tenant's cache left on a disk.
import { hkdfSync, type KeyObject } from 'node:crypto';

/** Bytes of a tenant's salt. */
export const CACHE_SALT_BYTES = 32;

const NAMESPACE_BYTES = 16;
const SEAL_KEY_BYTES = 32;

export interface CacheKeys {
  /** Hex. */
  namespace: string;
  /** 32 bytes in hex. */
  seal: string;
}

/** What sets caches of one tenant apart from one another; each part narrows, none can reach another tenant's cache. */
export interface CacheNarrowing {
  keyId?: string;
  /** The request's own `cache_salt`. */
  requestSalt?: string;
}

export function deriveCache(
  secret: KeyObject,
  salt: Uint8Array,
  tenant: string,
  { keyId, requestSalt }: CacheNarrowing = {},
): CacheKeys {
  // JSON keeps the parts apart: no choice of salt makes one list look like another.
  const info = JSON.stringify(['hearth-cache-1', tenant, keyId ?? null, requestSalt ?? null]);
  const bytes = Buffer.from(hkdfSync('sha256', secret, salt, info, NAMESPACE_BYTES + SEAL_KEY_BYTES));
  return {
    namespace: bytes.toString('hex', 0, NAMESPACE_BYTES),
    seal: bytes.toString('hex', NAMESPACE_BYTES),
  };
}
