// Administrators' keys beside the configured one, which needs no store and opens everything from the first minute. They are kept as a
// tenant's keys are: a hash under a versioned pepper, made anew at the next use.
import type { KeyHash } from './apiKey.ts';

export interface AdminKeyRecord {
  id: string;
  name: string;
  redacted: string;
  createdAtMs: number;
  lastUsedAtMs: number | null;
  expiresAtMs: number | null;
}

/** Most admin keys at once; a list of them is read whole. */
export const MAX_ADMIN_KEYS = 100;

export interface AdminKeyStore {
  /** The key that one of these hashes is of, newest pepper first; not one that has expired. */
  use(hashes: readonly KeyHash[], nowMs: number): Promise<AdminKeyRecord | undefined>;
  /** False when there are as many as there may be. */
  add(record: AdminKeyRecord, hash: KeyHash): Promise<boolean>;
  /** Oldest first. */
  list(): Promise<AdminKeyRecord[]>;
  /** The next request with it is refused. False when there was none. */
  delete(id: string): Promise<boolean>;
}
