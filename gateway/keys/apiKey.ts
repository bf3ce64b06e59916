// A tenant's key says whose it is and proves it without any look-up:
//   sk- base58( version 1 | project 12 | random 32 | MAC 8 | checksum 4 )
// The checksum catches typos for anyone; the MAC, under a secret of this installation, stops forgeries before the ledger is asked.
// What is stored is HMAC-SHA-256 of the whole key under a versioned pepper: a stolen database holds no usable key.
import { createHmac, hash, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { RandomBytes } from '../clock.ts';
import { PROJECT_ID_BYTES, projectIdBytes, projectIdOf } from '../ids.ts';
import { invariant } from '../invariant.ts';
import { decodeBase58, encodeBase58 } from './base58.ts';

const PREFIX = 'sk-';
const VERSION = 1;
const RANDOM_BYTES = 32;
const MAC_BYTES = 8;
const CHECKSUM_BYTES = 4;
const MAC_AT = 1 + PROJECT_ID_BYTES + RANDOM_BYTES;
const CHECKSUM_AT = MAC_AT + MAC_BYTES;
const KEY_BYTES = CHECKSUM_AT + CHECKSUM_BYTES;

/** A pepper by its version. The newest hashes; older ones only verify, and a key is hashed anew at its next use. */
export interface Pepper {
  version: number;
  secret: KeyObject;
}

/** A key's stored form. */
export interface KeyHash {
  pepperVersion: number;
  /** Hex. */
  hash: string;
}

function tagMac(tagSecret: KeyObject, bytes: Uint8Array): Uint8Array {
  return createHmac('sha256', tagSecret).update(bytes.subarray(0, MAC_AT)).digest().subarray(0, MAC_BYTES);
}

function checksum(bytes: Uint8Array): Uint8Array {
  return hash('sha256', bytes.subarray(0, CHECKSUM_AT), 'buffer').subarray(0, CHECKSUM_BYTES);
}

export function drawApiKey(projectId: string, tagSecret: KeyObject, random: RandomBytes): string {
  const project = projectIdBytes(projectId);
  invariant(project, 'a key needs a project id', { projectId });
  const bytes = new Uint8Array(KEY_BYTES);
  bytes[0] = VERSION;
  bytes.set(project, 1);
  bytes.set(random(RANDOM_BYTES), 1 + PROJECT_ID_BYTES);
  bytes.set(tagMac(tagSecret, bytes), MAC_AT);
  bytes.set(checksum(bytes), CHECKSUM_AT);
  return PREFIX + encodeBase58(bytes);
}

/** The project that a key was made for; undefined for a typo, a forgery, or another installation's key. */
export function projectOfKey(key: string, tagSecret: KeyObject): string | undefined {
  if (!key.startsWith(PREFIX)) return undefined;
  const bytes = decodeBase58(key.slice(PREFIX.length), KEY_BYTES);
  if (bytes?.[0] !== VERSION) return undefined;
  if (!timingSafeEqual(checksum(bytes), bytes.subarray(CHECKSUM_AT))) return undefined;
  if (!timingSafeEqual(tagMac(tagSecret, bytes), bytes.subarray(MAC_AT, CHECKSUM_AT))) return undefined;
  return projectIdOf(bytes.subarray(1, 1 + PROJECT_ID_BYTES));
}

export function hashKey(key: string, pepper: Pepper): KeyHash {
  return { pepperVersion: pepper.version, hash: createHmac('sha256', pepper.secret).update(key).digest('hex') };
}

/** Hashes under every pepper, the newest first: what the ledger may have stored for this key. */
export function keyHashes(key: string, peppers: readonly Pepper[]): KeyHash[] {
  return [...peppers].sort((a, b) => b.version - a.version).map((pepper) => hashKey(key, pepper));
}

export function sameHash(a: string, b: string): boolean {
  const left = Buffer.from(a, 'hex');
  const right = Buffer.from(b, 'hex');
  return left.length === right.length && left.length > 0 && timingSafeEqual(left, right);
}

/** For lists: first and last characters, which hold version and checksum, nothing secret. */
export function redactKey(key: string): string {
  return `${key.slice(0, PREFIX.length + 4)}...${key.slice(-4)}`;
}
