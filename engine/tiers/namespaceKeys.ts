// What one namespace's key is good for: names of its blocks that tell nothing without it, and one sealing key per record. Pure; the key
// itself is never written or logged. Both purposes have keys of their own (HKDF, RFC 5869), bound to namespace and fingerprint.
import { createHmac, createSecretKey, hash, hkdfSync, type KeyObject, timingSafeEqual } from 'node:crypto';
import { invariant } from '../invariant.ts';
import { BLOCK_TOKENS } from '../modelRunner.ts';

export const SEAL_KEY_BYTES = 32;
/** 128 bits of HMAC-SHA-256, in lower-case hex: without the key nobody can make two blocks with one id. */
const ID_HEX = 32;

/** The 16 tokens of a block from `start` on, as 32 UTF-16 units: one to one, and a Map finds it by all of them. */
export function packTokens(tokens: Int32Array, start: number): string {
  return Buffer.from(tokens.buffer, tokens.byteOffset + start * 4, BLOCK_TOKENS * 4).toString('utf16le');
}

export class NamespaceKeys {
  readonly #secret: Uint8Array;
  readonly #ids: KeyObject;
  readonly #seals: KeyObject;

  /** `fingerprint` of the model runner: other weights or kernels give other ids. Throws where the key has not 32 bytes. */
  constructor(secret: Uint8Array, namespace: string, fingerprint: string) {
    invariant(secret.byteLength === SEAL_KEY_BYTES, 'a seal key has 32 bytes', { bytes: secret.byteLength });
    this.#secret = Uint8Array.from(secret);
    const derive = (purpose: string) => {
      const info = hash('sha256', JSON.stringify([purpose, namespace, fingerprint]), 'buffer');
      return createSecretKey(Buffer.from(hkdfSync('sha256', secret, '', info, 32)));
    };
    this.#ids = derive('hearth kv block ids 1');
    this.#seals = derive('hearth kv record seals 1');
  }

  isMadeOf(secret: Uint8Array): boolean {
    return secret.byteLength === SEAL_KEY_BYTES && timingSafeEqual(this.#secret, secret);
  }

  /** Parent of the namespace's first blocks. */
  rootId(extra: string): string {
    return createHmac('sha256', this.#ids).update(`root\0${extra}`).digest('hex').slice(0, ID_HEX);
  }

  /** Of fixed length, unlike a root's message: 32 hex digits, then 64 bytes of tokens. */
  blockId(parentId: string, packedTokens: string): string {
    return createHmac('sha256', this.#ids)
      .update(parentId, 'latin1')
      .update(packedTokens, 'utf16le')
      .digest('hex')
      .slice(0, ID_HEX);
  }

  /** One AES-256-GCM key per record, so that a random nonce is never used twice under one key. */
  recordKey(id: string): Buffer {
    return createHmac('sha256', this.#seals).update(id, 'latin1').digest();
  }
}
