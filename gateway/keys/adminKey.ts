// The operator's own key. It is compared by digest in constant time and never stored in the database.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { RandomBytes } from '../clock.ts';
import { encodeBase58 } from './base58.ts';

export const ADMIN_KEY_PREFIX = 'sk-admin-';
/** A shorter admin key could be guessed over the network. */
export const ADMIN_KEY_MIN_LENGTH = 24;

export function drawAdminKey(random: RandomBytes): string {
  return ADMIN_KEY_PREFIX + encodeBase58(random(32));
}

export function isAdminKey(given: string, adminKey: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(adminKey));
}
