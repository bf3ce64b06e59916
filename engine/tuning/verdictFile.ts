// What was measured, kept for the next start: one file for all adapters and models of this user. Whatever of it can't be read counts as not
// there, and is written anew. Processes that write at once take in each other's entries as far as they have seen them, and replace the file by
// a rename: it is whole at any time, and what the loser of a race measured is measured again.
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Tunable, Verdict } from './tunable.ts';

/** Raised where problems or the way of timing change: what was measured before then counts for nothing. */
const VERSION = 1;
/** Adapters × models × operations of a machine are a few dozen; the oldest go. */
const MAX_ENTRIES = 512;
/** Larger than so many entries can be: not ours. */
const MAX_BYTES = 1_048_576;

export interface StoredVerdict {
  /** Adapter, driver and, where it is software, processor. */
  adapter: string;
  name: string;
  /** Digest of the candidates' names and sources. */
  sources: string;
  chosen: string;
  seconds: Record<string, number>;
  dropped: string[];
}

export const sourcesDigest = ({ names, sources }: Pick<Tunable, 'names' | 'sources'>): string =>
  createHash('sha256')
    .update(JSON.stringify([names, sources]))
    .digest('hex')
    .slice(0, 32);

export class VerdictFile {
  readonly #path: string;
  readonly #adapter: string;
  #entries: StoredVerdict[] = [];

  private constructor(path: string, adapter: string) {
    this.#path = path;
    this.#adapter = adapter;
  }

  static async open(path: string, adapter: string): Promise<VerdictFile> {
    const file = new VerdictFile(path, adapter);
    file.#entries = await readVerdicts(path);
    return file;
  }

  /** null: nothing is known of this tunable with these sources on this adapter. */
  find(tunable: Tunable): Verdict | null {
    const digest = sourcesDigest(tunable);
    const found = this.#entries.find((entry) => this.#isOf(entry, tunable.name) && entry.sources === digest);
    if (!found || !tunable.names.includes(found.chosen)) return null;
    return { chosen: found.chosen, why: 'stored', seconds: found.seconds, dropped: found.dropped };
  }

  /** In place of what was known of it with other sources. Rejects where the file can't be written: worth a word, not a start. */
  async keep(tunable: Tunable, { chosen, seconds, dropped }: Verdict): Promise<void> {
    const entry: StoredVerdict = {
      ...{ adapter: this.#adapter, name: tunable.name, sources: sourcesDigest(tunable), chosen },
      ...{ seconds: { ...seconds }, dropped: [...dropped] },
    };
    const others = (await readVerdicts(this.#path)).filter((each) => !this.#isOf(each, tunable.name));
    this.#entries = [...others, entry].slice(-MAX_ENTRIES);
    await mkdir(dirname(this.#path), { recursive: true });
    const fresh = `${this.#path}.${randomUUID()}`;
    try {
      await writeFile(fresh, JSON.stringify({ version: VERSION, entries: this.#entries }));
      await rename(fresh, this.#path);
    } finally {
      await rm(fresh, { force: true });
    }
  }

  #isOf(entry: StoredVerdict, name: string): boolean {
    return entry.adapter === this.#adapter && entry.name === name;
  }
}

/** All that the file holds; nothing where it is missing, damaged, or of another version. */
export async function readVerdicts(path: string): Promise<StoredVerdict[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  if (text.length > MAX_BYTES) return [];
  try {
    const parsed: unknown = JSON.parse(text);
    if (!isRecord(parsed) || parsed.version !== VERSION || !Array.isArray(parsed.entries)) return [];
    return parsed.entries.filter(isVerdict);
  } catch {
    return [];
  }
}

function isVerdict(value: unknown): value is StoredVerdict {
  if (!isRecord(value)) return false;
  const { adapter, name, sources, chosen, seconds, dropped } = value;
  return (
    [adapter, name, sources, chosen].every((each) => typeof each === 'string') &&
    isRecord(seconds) &&
    Object.values(seconds).every((each) => typeof each === 'number' && each > 0) &&
    Array.isArray(dropped) &&
    dropped.every((each) => typeof each === 'string' && each !== chosen)
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
