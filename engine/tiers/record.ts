// A KV block outside the process. Sealed under its namespace's key with AES-256-GCM: without that key nobody reads or makes one, and one
// that was damaged, cut, moved to another name or made for other tokens does not open. Pure: bytes in, bytes out.
//
//   clear, authenticated   magic 4 │ plaintext bytes u32 │ nonce 12          and, not stored, the id under which it is asked for
//   sealed                 identity 32 │ parent id 16 │ own tokens 64 │ KV …
//   tag 16
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { BLOCK_TOKENS } from '../modelRunner.ts';
import type { NamespaceKeys } from './namespaceKeys.ts';

/** Changes with anything below, and with the layout of a block's bytes. */
const MAGIC = 'HKV1';
const NONCE_BYTES = 12;
const CLEAR_BYTES = 8 + NONCE_BYTES;
const TAG_BYTES = 16;
const IDENTITY_BYTES = 32;
const PARENT_BYTES = 16;
const HEAD_BYTES = IDENTITY_BYTES + PARENT_BYTES + BLOCK_TOKENS * 4;

/** What a record must be, to the last bit, to be the one that is looked for. */
export interface RecordName {
  id: string;
  parentId: string;
  /** As of `packTokens`. */
  packedTokens: string;
  /** Of `identityOf`. */
  identity: Buffer;
}

/** What KV bytes mean: which model on which device computed them, and what else than tokens they depend on. */
export function identityOf(fingerprint: string, extra: string): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([MAGIC, fingerprint, extra]))
    .digest();
}

/** Bytes of a record that holds a block of `blockBytes`. */
export function recordBytes(blockBytes: number): number {
  return CLEAR_BYTES + HEAD_BYTES + blockBytes + TAG_BYTES;
}

/** The record, in pieces to be written one after the other. */
export function sealRecord(keys: NamespaceKeys, name: RecordName, block: Uint8Array): Buffer[] {
  const clear = Buffer.alloc(CLEAR_BYTES);
  clear.write(MAGIC, 'latin1');
  clear.writeUInt32LE(HEAD_BYTES + block.byteLength, 4);
  randomBytes(NONCE_BYTES).copy(clear, 8);
  const cipher = createCipheriv('aes-256-gcm', keys.recordKey(name.id), clear.subarray(8));
  cipher.setAAD(authenticated(clear, name.id));
  const head = cipher.update(headOf(name));
  const body = cipher.update(block);
  return [clear, head, body, cipher.final(), cipher.getAuthTag()];
}

/** The block's bytes, or null where the record is not the one of this name, whole and untouched. */
export function openRecord(
  keys: NamespaceKeys,
  name: RecordName,
  record: Buffer,
  blockBytes: number,
): Uint8Array | null {
  if (record.byteLength !== recordBytes(blockBytes) || record.toString('latin1', 0, 4) !== MAGIC) return null;
  const clear = record.subarray(0, CLEAR_BYTES);
  if (clear.readUInt32LE(4) !== HEAD_BYTES + blockBytes) return null;
  const decipher = createDecipheriv('aes-256-gcm', keys.recordKey(name.id), clear.subarray(8));
  decipher.setAAD(authenticated(clear, name.id));
  decipher.setAuthTag(record.subarray(-TAG_BYTES));
  const plain = decipher.update(record.subarray(CLEAR_BYTES, -TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return null;
  }
  if (!plain.subarray(0, HEAD_BYTES).equals(headOf(name))) return null;
  // Not a Buffer, whose `slice` is no copy: whoever gets this may take it for the array that its type says.
  return new Uint8Array(plain.buffer, plain.byteOffset + HEAD_BYTES, blockBytes);
}

function headOf({ identity, parentId, packedTokens }: RecordName): Buffer {
  return Buffer.concat([identity, Buffer.from(parentId, 'hex'), Buffer.from(packedTokens, 'utf16le')], HEAD_BYTES);
}

function authenticated(clear: Buffer, id: string): Buffer {
  return Buffer.concat([clear, Buffer.from(id, 'hex')]);
}
