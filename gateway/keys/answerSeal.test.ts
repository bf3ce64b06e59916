// A sealed answer opens for its own record alone, and no more once its tenant's salt or its pepper is gone; digests outlive peppers.
import { createSecretKey, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { openAnswer, presentedAs, sealAnswer } from './answerSeal.ts';
import { createKeyring } from './keyring.ts';

const secretOf = (fill: number) => createSecretKey(Buffer.alloc(32, fill));
const pepper = (version: number) => ({ version, secret: secretOf(version) });
const keyring = (...versions: number[]) =>
  createKeyring({ adminKey: 'a', namespaceSecret: secretOf(7), peppers: versions.map(pepper) });
const random = (count: number) => randomBytes(count);
const MINE = { tenant: 'proj_a', salt: Buffer.alloc(32, 1) };
const ANSWER = Buffer.from('{"choices":"a secret answer"}');
const presented = presentedAs(keyring(1), MINE, 'key-1', 'the body');

test('an answer opens as it was sealed, and says nothing until then', async () => {
  const sealed = await sealAnswer(keyring(1), MINE, presented, ANSWER, random);
  expect(Buffer.from(sealed).includes('secret')).toBe(false);
  expect(await openAnswer(keyring(1), MINE, presented, sealed)).toEqual(ANSWER);
  expect(await sealAnswer(keyring(1), MINE, presented, ANSWER, random)).not.toEqual(sealed);
});

test('it opens for no other tenant, salt, key or body, nor with a byte changed', async () => {
  const sealed = await sealAnswer(keyring(1), MINE, presented, ANSWER, random);
  const open = (of = MINE, by = presented, bytes: Uint8Array = sealed) => openAnswer(keyring(1), of, by, bytes);
  expect(await open({ ...MINE, tenant: 'proj_b' })).toBeNull();
  expect(await open({ ...MINE, salt: Buffer.alloc(32, 2) })).toBeNull();
  expect(await open(MINE, { ...presented, keyHash: '00' })).toBeNull();
  expect(await open(MINE, { ...presented, bodyDigest: '00' })).toBeNull();
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8((changed[at] ?? 0) ^ 1, at);
    expect(await open(MINE, presented, changed)).toBeNull();
  }
  expect(await open(MINE, presented, sealed.subarray(0, 20))).toBeNull();
});

test('it opens while its pepper verifies, and digests stay the same after that', async () => {
  const sealed = await sealAnswer(keyring(1), MINE, presented, ANSWER, random);
  expect(await openAnswer(keyring(1, 2), MINE, presented, sealed)).toEqual(ANSWER);
  expect(await openAnswer(keyring(2), MINE, presented, sealed)).toBeNull();
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

test('a long stream takes a small part of itself', async () => {
  const chunk = (i: number) =>
    `data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk","choices":[{"delta":"${i * 7919}"}]}`;
  const stream = Buffer.from(Array.from({ length: 1000 }, (_, i) => chunk(i)).join('\n\n'));
  const sealed = await sealAnswer(keyring(1), MINE, presented, stream, random);
  expect(sealed.length).toBeLessThan(stream.length / 10);
  expect(await openAnswer(keyring(1), MINE, presented, sealed)).toEqual(stream);
});
