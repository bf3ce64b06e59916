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

/** Narrowings of one salt that are remembered: clients choose their `cache_salt`. */
const MAX_NARROWINGS = 64;

/** Derives a tenant's caches, and remembers them for exactly as long as its salt is in memory: what destroys that destroys them. */
export class TenantCaches {
  readonly #secret: KeyObject;
  readonly #derived = new WeakMap<Uint8Array, Map<string, CacheKeys>>();

  constructor(secret: KeyObject) {
    this.#secret = secret;
  }

  of(salt: Uint8Array, tenant: string, narrowing: CacheNarrowing): CacheKeys {
    let known = this.#derived.get(salt);
    if (!known) {
      known = new Map();
      this.#derived.set(salt, known);
    }
    const who = nameOf(tenant, narrowing);
    const found = known.get(who);
    if (found) return found;
    const derived = deriveCache(this.#secret, salt, tenant, narrowing);
    if (known.size >= MAX_NARROWINGS) known.clear();
    known.set(who, derived);
    return derived;
  }
}

export function deriveCache(
  secret: KeyObject,
  salt: Uint8Array,
  tenant: string,
  narrowing: CacheNarrowing = {},
): CacheKeys {
  const info = infoOf(tenant, narrowing);
  const bytes = Buffer.from(hkdfSync('sha256', secret, salt, info, NAMESPACE_BYTES + SEAL_KEY_BYTES));
  return {
    namespace: bytes.toString('hex', 0, NAMESPACE_BYTES),
    seal: bytes.toString('hex', NAMESPACE_BYTES),
  };
}

/** As `infoOf`, for memory alone, where it is asked for by every request: lengths keep the parts apart. */
function nameOf(tenant: string, { keyId, requestSalt }: CacheNarrowing): string {
  const salted = requestSalt === undefined ? '' : `=${requestSalt}`;
  return `${tenant.length},${keyId?.length ?? ''},${tenant}${keyId ?? ''}${salted}`;
}

/** JSON keeps the parts apart: no choice of salt makes one list look like another. */
function infoOf(tenant: string, { keyId, requestSalt }: CacheNarrowing): string {
  return JSON.stringify(['hearth-cache-1', tenant, keyId ?? null, requestSalt ?? null]);
}
