// Keys: whose they are without a look-up, and that a typo, a forgery or another installation's key never passes.
import { createHash, createSecretKey, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { drawApiKey, hashKey, keyHashes, projectOfKey, redactKey, sameHash } from './apiKey.ts';
import { decodeBase58, encodeBase58 } from './base58.ts';
import { createKeyring } from './keyring.ts';

const random = (count: number) => randomBytes(count);
const PROJECT = 'proj_0123456789abcdef01234567';
const SECRET = createSecretKey(Buffer.alloc(32, 7));
const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

test('base58 gives back exactly the bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      expect(decodeBase58(encodeBase58(bytes), bytes.length)).toEqual(Buffer.from(bytes));
      expect(decodeBase58(encodeBase58(bytes), bytes.length + 1)).toBeUndefined();
    }),
  );
  expect(encodeBase58(Buffer.from('Hello World!'))).toBe('2NEpo7TZRRrLZSi2U');
  expect(decodeBase58('z'.repeat(100_000), 57)).toBeUndefined();
});

test('a key names its project, and only under the secret that made it', () => {
  const key = drawApiKey(PROJECT, SECRET, random);
  expect(key).toMatch(/^sk-[1-9A-HJ-NP-Za-km-z]{77}$/);
  expect(projectOfKey(key, SECRET)).toBe(PROJECT);
  expect(projectOfKey(key, createSecretKey(Buffer.alloc(32, 8)))).toBeUndefined();
  expect(drawApiKey(PROJECT, SECRET, random)).not.toBe(key);
});

test('every typo of one character, every swap of two neighbours and every cut fails before any look-up', () => {
  const key = drawApiKey(PROJECT, SECRET, random);
  let tried = 0;
  for (let at = 0; at < key.length; at++) {
    for (const symbol of `${ALPHABET}0OIl-_ `) {
      if (symbol === key[at]) continue;
      expect(projectOfKey(key.slice(0, at) + symbol + key.slice(at + 1), SECRET)).toBeUndefined();
      tried += 1;
    }
    const swapped = key.slice(0, at) + (key[at + 1] ?? '') + (key[at] ?? '') + key.slice(at + 2);
    if (swapped !== key) expect(projectOfKey(swapped, SECRET)).toBeUndefined();
    expect(projectOfKey(key.slice(0, at), SECRET)).toBeUndefined();
    expect(projectOfKey(`${key.slice(0, at)}1${key.slice(at)}`, SECRET)).toBeUndefined();
  }
  expect(tried).toBeGreaterThan(4000);
});

test('a forger who knows the format and the checksum lacks the MAC', () => {
  const bytes =
    decodeBase58(drawApiKey(PROJECT, createSecretKey(Buffer.alloc(32, 9)), random).slice(3), 57) ?? new Uint8Array();
  const other = Buffer.from(bytes);
  other.set(Buffer.from('ffffffffffffffffffffffff', 'hex'), 1);
  other.set(createHash('sha256').update(other.subarray(0, 53)).digest().subarray(0, 4), 53);
  expect(projectOfKey(`sk-${encodeBase58(other)}`, SECRET)).toBeUndefined();
});

test('after a rotation the newest pepper hashes and the old one still verifies', () => {
  const [old, fresh] = [1, 2].map((version) => ({ version, secret: createSecretKey(Buffer.alloc(32, version)) }));
  if (!old || !fresh) throw new Error('two peppers');
  const key = drawApiKey(PROJECT, SECRET, random);
  const stored = hashKey(key, old);
  const hashes = keyHashes(key, [old, fresh]);
  expect(hashes.map(({ pepperVersion }) => pepperVersion)).toEqual([2, 1]);
  expect(hashes.filter(({ hash }) => sameHash(hash, stored.hash))).toEqual([stored]);
  const keyring = createKeyring({ adminKey: 'a', namespaceSecret: SECRET, peppers: [old, fresh] });
  expect(keyring.newestPepper.version).toBe(2);
});

test('what is shown of a key does not tell it', () => {
  const key = drawApiKey(PROJECT, SECRET, random);
  expect(redactKey(key)).toMatch(/^sk-.{4}\.\.\..{4}$/);
});

test('hashes are compared whole', () => {
  expect(sameHash('abcd', 'abcd')).toBe(true);
  for (const other of ['abce', 'ab', '', 'xyz']) expect(sameHash('abcd', other)).toBe(false);
  expect(sameHash('', '')).toBe(false);
});
