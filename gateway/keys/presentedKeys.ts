// What a project's key claims, remembered: whoever uses a key uses it again, and its checksum, its tag and its hashes cost five digests. The
// key itself is not kept, only its digest; whether it is still good is the ledger's to say, every time.
import { hash, type KeyObject } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { KeyPresented } from '../ledger/port.ts';
import { keyHashes, type Pepper, projectOfKey } from './apiKey.ts';

/** That are remembered, unless a host has room for more: about 500 bytes each. */
export const MAX_PRESENTED_KEYS = 10_000;

export class PresentedKeys {
  readonly #tagSecret: KeyObject;
  readonly #peppers: readonly Pepper[];
  readonly #known: LRUCache<string, KeyPresented>;

  constructor(tagSecret: KeyObject, peppers: readonly Pepper[], most: number) {
    this.#tagSecret = tagSecret;
    this.#peppers = peppers;
    this.#known = new LRUCache({ max: most });
  }

  /** undefined for a typo, a forgery, or another installation's key. */
  claimOf(key: string): KeyPresented | undefined {
    const digest = hash('sha256', key, 'base64');
    const known = this.#known.get(digest);
    if (known) return known;
    const tenant = projectOfKey(key, this.#tagSecret);
    if (!tenant) return undefined;
    const claim = { tenant, hashes: keyHashes(key, this.#peppers) };
    this.#known.set(digest, claim);
    return claim;
  }
}
