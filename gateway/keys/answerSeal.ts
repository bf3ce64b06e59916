// How a tenant's idempotency keys and answers stand at rest. Keys and bodies are told apart by digests that are keyed for the tenant, so
// that nobody can try guesses against them; those keys last as long as the installation, or a rotated pepper would run a request twice.
// Answers are sealed (AES-256-GCM) under a key of pepper and tenant; under another pepper, or for another record, they don't open. Both
// need the tenant's salt (cacheScope.ts): once the directory has deleted it, no answer is readable, wherever a copy of it lies.
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, type KeyObject } from 'node:crypto';
import type { RandomBytes } from '../clock.ts';
import type { PresentedKey } from '../ledger/idempotency.ts';
import type { Pepper } from './apiKey.ts';
import type { Keyring } from './keyring.ts';

const KEY_BYTES = 32;
const VERSION_BYTES = 4;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = VERSION_BYTES + NONCE_BYTES + TAG_BYTES;

export interface SaltedTenant {
  tenant: string;
  salt: Uint8Array;
}

/** `request`: what the key must stand for alone: route and body. */
export function presentedAs(
  { idempotencySecret }: Keyring,
  { tenant, salt }: SaltedTenant,
  key: string,
  request: string,
): PresentedKey {
  const secret = derive(idempotencySecret, salt, ['hearth-idempotency-digest-1', tenant]);
  const digest = (purpose: string, value: string) =>
    createHmac('sha256', secret).update(`${purpose}\n${value}`).digest('hex');
  return { keyHash: digest('key', key), bodyDigest: digest('body', request) };
}

/** Pepper's version | nonce | tag | ciphertext of the compressed answer, bound to the record that it is of. */
export async function sealAnswer(
  { newestPepper }: Keyring,
  of: SaltedTenant,
  presented: PresentedKey,
  answer: Uint8Array,
  random: RandomBytes,
): Promise<Uint8Array> {
  const compressed = await piped(answer, new CompressionStream('gzip'));
  const nonce = random(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', sealKey(newestPepper, of), nonce);
  cipher.setAAD(boundTo(presented));
  const sealed = Buffer.concat([cipher.update(compressed), cipher.final()]);
  const version = Buffer.alloc(VERSION_BYTES);
  version.writeUInt32BE(newestPepper.version);
  return Buffer.concat([version, nonce, cipher.getAuthTag(), sealed]);
}

/** null: its pepper is gone, or it is of another tenant or record. */
export async function openAnswer(
  { peppers }: Keyring,
  of: SaltedTenant,
  presented: PresentedKey,
  sealed: Uint8Array,
): Promise<Uint8Array | null> {
  const bytes = Buffer.from(sealed);
  if (bytes.length < HEAD_BYTES) return null;
  const version = bytes.readUInt32BE(0);
  const pepper = peppers.find((one) => one.version === version);
  if (!pepper) return null;
  const nonce = bytes.subarray(VERSION_BYTES, VERSION_BYTES + NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', sealKey(pepper, of), nonce);
  decipher.setAAD(boundTo(presented));
  decipher.setAuthTag(bytes.subarray(VERSION_BYTES + NONCE_BYTES, HEAD_BYTES));
  let compressed: Uint8Array;
  try {
    compressed = Buffer.concat([decipher.update(bytes.subarray(HEAD_BYTES)), decipher.final()]);
  } catch {
    return null;
  }
  return piped(compressed, new DecompressionStream('gzip'));
}

/** A stream's chunks repeat themselves: they take a twentieth. */
async function piped(bytes: Uint8Array, through: CompressionStream | DecompressionStream): Promise<Uint8Array> {
  const stream = new Response(Buffer.from(bytes)).body?.pipeThrough(through);
  return Buffer.from(await new Response(stream ?? null).arrayBuffer());
}

function sealKey({ secret }: Pepper, { tenant, salt }: SaltedTenant): Uint8Array {
  return derive(secret, salt, ['hearth-idempotency-seal-1', tenant]);
}

function derive(secret: KeyObject, salt: Uint8Array, purpose: readonly string[]): Uint8Array {
  return Buffer.from(hkdfSync('sha256', secret, salt, JSON.stringify(purpose), KEY_BYTES));
}

function boundTo({ keyHash, bodyDigest }: PresentedKey): Uint8Array {
  return Buffer.from(JSON.stringify([keyHash, bodyDigest]));
}
