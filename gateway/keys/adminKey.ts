// An administrator's key: sk-admin- base58( version 1 | random 32 | checksum 4 ). The configured one may look otherwise; it is compared by
// digest in constant time and never stored in the database.
import { hash, timingSafeEqual } from 'node:crypto';
import type { RandomBytes } from '../clock.ts';
import { encodeBase58 } from './base58.ts';

export const ADMIN_KEY_PREFIX = 'sk-admin-';
/** A shorter admin key could be guessed over the network. */
export const ADMIN_KEY_MIN_LENGTH = 24;

const VERSION = 1;
const RANDOM_BYTES = 32;
const CHECKSUM_BYTES = 4;

export function drawAdminKey(random: RandomBytes): string {
  const body = Buffer.concat([Uint8Array.of(VERSION), random(RANDOM_BYTES)]);
  const checksum = hash('sha256', body, 'buffer').subarray(0, CHECKSUM_BYTES);
  return ADMIN_KEY_PREFIX + encodeBase58(Buffer.concat([body, checksum]));
}

export function isAdminKey(given: string, adminKey: string): boolean {
  const digest = (text: string) => hash('sha256', text, 'buffer');
  return timingSafeEqual(digest(given), digest(adminKey));
}

/** For lists. */
export function redactAdminKey(key: string): string {
  return `${key.slice(0, ADMIN_KEY_PREFIX.length + 4)}...${key.slice(-4)}`;
}
