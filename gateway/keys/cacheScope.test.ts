// Caches of two tenants, of two salts and of two keys have nothing in common, and none can be derived without the tenant's salt.
import { createHmac, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CacheNarrowing, deriveCache, TenantCaches } from './cacheScope.ts';

const SECRET = createSecretKey(Buffer.alloc(32, 1));
const SALT = Buffer.alloc(32, 2);

/** HKDF-SHA-256 as RFC 5869 writes it. */
function hkdf(secret: KeyObject, salt: Uint8Array, info: string, length: number): string {
  const key = createHmac('sha256', salt).update(secret.export()).digest();
  let block = Buffer.alloc(0);
  const blocks: Buffer[] = [];
  for (let i = 1; blocks.length * 32 < length; i++) {
    block = createHmac('sha256', key).update(block).update(info).update(Buffer.of(i)).digest();
    blocks.push(block);
  }
  return Buffer.concat(blocks)
    .toString('hex')
    .slice(0, length * 2);
}

test('namespace and seal are HKDF of secret, salt and who it is for', () => {
  const { namespace, seal } = deriveCache(SECRET, SALT, 'proj_1');
  expect(namespace + seal).toBe(hkdf(SECRET, SALT, '["hearth-cache-1","proj_1",null,null]', 48));
  expect([namespace.length, seal.length]).toEqual([32, 64]);
});

test('anything else about the request makes another cache, with another seal', () => {
  const texts = fc.string({ minLength: 1, maxLength: 20 });
  const who = fc.tuple(texts, fc.record({ keyId: texts, requestSalt: texts }, { requiredKeys: [] }));
  const told = ([tenant, { keyId, requestSalt }]: [string, CacheNarrowing]) =>
    JSON.stringify([tenant, keyId ?? null, requestSalt ?? null]);
  fc.assert(
    fc.property(who, who, (a, b) => {
      const [one, other] = [deriveCache(SECRET, SALT, ...a), deriveCache(SECRET, SALT, ...b)];
      expect(one.namespace === other.namespace).toBe(told(a) === told(b));
      expect(one.seal === other.seal).toBe(told(a) === told(b));
    }),
  );
});

test('the secret without the salt, and the salt without the secret, give another cache', () => {
  const own = deriveCache(SECRET, SALT, 'proj_1');
  for (const [secret, salt] of [
    [SECRET, randomBytes(32)],
    [createSecretKey(randomBytes(32)), SALT],
    [SECRET, Buffer.alloc(0)],
  ] as const) {
    const other = deriveCache(secret, salt, 'proj_1');
    expect(other.namespace).not.toBe(own.namespace);
    expect(other.seal).not.toBe(own.seal);
  }
});

test('what is remembered is what would be derived, for every tenant, narrowing and salt', () => {
  const caches = new TenantCaches(SECRET);
  const salts = [SALT, Buffer.alloc(32, 2), Buffer.alloc(32, 3)];
  const few = fc.constantFrom('a', 'b', 'c');
  const narrowing = fc.record({ keyId: few, requestSalt: fc.string({ maxLength: 2 }) }, { requiredKeys: [] });
  fc.assert(
    fc.property(fc.nat(2), few, narrowing, (which, tenant, narrowed) => {
      const salt = salts[which]!;
      const derived = caches.of(salt, tenant, narrowed);
      expect(derived).toEqual(deriveCache(SECRET, salt, tenant, narrowed));
      expect(caches.of(salt, tenant, narrowed)).toBe(derived);
    }),
    { numRuns: 500 },
  );
});
