// Public prefixes as they were declared, in the order of their declaration. Text is kept, not token ids: a model's next version may
// have another tokeniser.
import type { PublicPrefix } from '../../pool/wire/publicPrefixes.ts';

export interface StoredPrefix {
  prefix: PublicPrefix;
  createdAtMs: number;
}

export interface PrefixStore {
  prefixes(): Promise<StoredPrefix[]>;
  addPrefix(stored: StoredPrefix): Promise<void>;
  /** False when there was none. */
  deletePrefix(id: string): Promise<boolean>;
}
