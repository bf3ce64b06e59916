// A sealed answer opens for its own record alone, and no more once its tenant's salt or its pepper is gone; digests outlive peppers.
import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { openAnswer, presentedAs, sealAnswer } from './answerSeal.ts';
import { createKeyring } from './keyring.ts';

const pepper = (version: number) => ({ version, secret: Buffer.alloc(32, version) });
const keyring = (...versions: number[]) =>
  createKeyring({ adminKey: 'a', namespaceSecret: Buffer.alloc(32, 7), peppers: versions.map(pepper) });
const random = (count: number) => randomBytes(count);
const MINE = { tenant: 'proj_a', salt: Buffer.alloc(32, 1) };
const ANSWER = Buffer.from('{"choices":"a secret answer"}');
const presented = presentedAs(keyring(1), MINE, 'key-1', 'the body');

test('an answer opens as it was sealed, and says nothing until then', () => {
  const sealed = sealAnswer(keyring(1), MINE, presented, ANSWER, random);
  expect(Buffer.from(sealed).includes('secret')).toBe(false);
  expect(openAnswer(keyring(1), MINE, presented, sealed)).toEqual(ANSWER);
  expect(sealAnswer(keyring(1), MINE, presented, ANSWER, random)).not.toEqual(sealed);
});

test('it opens for no other tenant, salt, key or body, nor with a byte changed', () => {
  const sealed = sealAnswer(keyring(1), MINE, presented, ANSWER, random);
  const open = (of = MINE, by = presented, bytes: Uint8Array = sealed) => openAnswer(keyring(1), of, by, bytes);
  expect(open({ ...MINE, tenant: 'proj_b' })).toBeNull();
  expect(open({ ...MINE, salt: Buffer.alloc(32, 2) })).toBeNull();
  expect(open(MINE, { ...presented, keyHash: '00' })).toBeNull();
  expect(open(MINE, { ...presented, bodyDigest: '00' })).toBeNull();
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8((changed[at] ?? 0) ^ 1, at);
    expect(open(MINE, presented, changed)).toBeNull();
  }
  expect(open(MINE, presented, sealed.subarray(0, 20))).toBeNull();
});

test('it opens while its pepper verifies, and digests stay the same after that', () => {
  const sealed = sealAnswer(keyring(1), MINE, presented, ANSWER, random);
  expect(openAnswer(keyring(1, 2), MINE, presented, sealed)).toEqual(ANSWER);
  expect(openAnswer(keyring(2), MINE, presented, sealed)).toBeNull();
  expect(presentedAs(keyring(2), MINE, 'key-1', 'the body')).toEqual(presented);
});

test('digests differ by tenant, key and body', () => {
  const other = (tenant = 'proj_a', key = 'key-1', body = 'the body') =>
    presentedAs(keyring(1), { ...MINE, tenant }, key, body);
  expect(other('proj_b').keyHash).not.toBe(presented.keyHash);
  expect(other('proj_a', 'key-2').keyHash).not.toBe(presented.keyHash);
  expect(other('proj_a', 'key-1', 'a body')).toMatchObject({ keyHash: presented.keyHash });
  expect(other('proj_a', 'key-1', 'a body').bodyDigest).not.toBe(presented.bodyDigest);
});
