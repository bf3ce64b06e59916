// One process per journal folder: two that append to the same receipts would make both bills wrong. The lock is SQLite's own file
// lock, which the operating system drops when the process dies, however it dies; a pid file would outlive a kill -9.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

export class JournalLocked extends Error {
  override readonly name = 'JournalLocked';
  readonly code = 'journal_locked';
}

/** Throws JournalLocked when another process (or another journal of this one) has the folder. Returns the release. */
export function lockFolder(folder: string): () => void {
  const database = new DatabaseSync(join(folder, 'lock.sqlite'));
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch {
    database.close();
    throw new JournalLocked(
      `Another pool process uses the journal folder ${folder}. Stop it, or give this pool a folder of its own.`,
    );
  }
  return () => database.close();
}
