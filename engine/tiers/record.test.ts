import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { promptOf } from '../../test/support/tierRig.ts';
import { NamespaceKeys, packTokens } from './namespaceKeys.ts';
import { identityOf, openRecord, type RecordName, recordBytes, sealRecord } from './record.ts';

const KEY = randomBytes(32);
const keys = new NamespaceKeys(KEY, 'tenant', 'fingerprint');
const block = randomBytes(512);
const tokens = promptOf(1, 3);

function nameOf(own: NamespaceKeys, extra = ''): RecordName {
  const parentId = own.blockId(own.rootId(extra), packTokens(tokens, 0));
  const packedTokens = packTokens(tokens, 16);
  return {
    id: own.blockId(parentId, packedTokens),
    parentId,
    packedTokens,
    identity: identityOf('fingerprint', extra),
  };
}

const name = nameOf(keys);
const record = Buffer.concat(sealRecord(keys, name, block));

describe('a sealed record', () => {
  it('opens to the bytes that were sealed, and has the length that is expected of it', () => {
    expect(record.byteLength).toBe(recordBytes(512));
    const opened = openRecord(keys, name, record, 512);
    expect(Buffer.from(opened ?? []).equals(block)).toBe(true);
    expect(Buffer.isBuffer(opened)).toBe(false);
  });

  it('does not open with any one bit changed', () => {
    for (let byte = 0; byte < record.byteLength; byte++) {
      const damaged = Buffer.from(record);
      damaged[byte]! ^= 1 << (byte % 8);
      expect(openRecord(keys, name, damaged, 512), `byte ${byte}`).toBeNull();
    }
  });

  it('does not open cut short, made longer, or as a block of another size', () => {
    for (const bytes of [0, 1, 19, 20, 131, record.byteLength - 1])
      expect(openRecord(keys, name, record.subarray(0, bytes), 512)).toBeNull();
    expect(openRecord(keys, name, Buffer.concat([record, Buffer.alloc(1)]), 512)).toBeNull();
    expect(openRecord(keys, name, record, 508)).toBeNull();
  });

  const others: [string, Partial<RecordName>][] = [
    ['id', { id: 'f'.repeat(32) }],
    ['parent', { parentId: 'f'.repeat(32) }],
    ['own tokens', { packedTokens: packTokens(tokens, 32) }],
    ['adapter', { identity: identityOf('fingerprint', 'lora') }],
    ['fingerprint', { identity: identityOf('other', '') }],
  ];
  it.each(others)('does not open as one with another %s', (_what, over) => {
    expect(openRecord(keys, { ...name, ...over }, record, 512)).toBeNull();
  });

  it('does not open with another key', () => {
    const other = new NamespaceKeys(randomBytes(32), 'tenant', 'fingerprint');
    expect(openRecord(other, name, record, 512)).toBeNull();
  });

  it('tells nothing of tokens or bytes without the key', () => {
    expect(record.includes(Buffer.from(name.packedTokens, 'utf16le'))).toBe(false);
    expect(record.includes(block.subarray(0, 16))).toBe(false);
  });
});

it('ids differ by key, namespace, fingerprint, extra, parent and every token', () => {
  const ids = new Set<string>();
  let made = 0;
  const add = (id: string) => {
    ids.add(id);
    made += 1;
  };
  add(name.id);
  add(nameOf(keys, 'lora').id);
  add(nameOf(new NamespaceKeys(randomBytes(32), 'tenant', 'fingerprint')).id);
  add(nameOf(new NamespaceKeys(KEY, 'tenant 2', 'fingerprint')).id);
  add(nameOf(new NamespaceKeys(KEY, 'tenant', 'fingerprint 2')).id);
  for (let i = 0; i < 16; i++)
    for (const bit of [1, 1 << 16, 1 << 30]) {
      const changed = tokens.slice();
      changed[i]! ^= bit;
      add(keys.blockId(keys.rootId(''), packTokens(changed, 0)));
    }
  expect(ids.size).toBe(made);
  expect(nameOf(new NamespaceKeys(KEY, 'tenant', 'fingerprint'))).toEqual(name);
});

it('tokens are packed one to one, lone surrogates and all', () => {
  const odd = Int32Array.from({ length: 16 }, (_, i) => 0xd800 + i * 0x10001);
  const back = Buffer.from(packTokens(odd, 0), 'utf16le');
  expect(Array.from({ length: 16 }, (_, i) => back.readInt32LE(4 * i))).toEqual([...odd]);
});
