// The thread that carries SQLite's log into the database file (shortLog.ts). Told to, it does so once, and answers null or why it could not. It has
// the file by its own connection, which creates none, and syncs what it carries: `synchronous` stays FULL, as SQLite has it.
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';

const file = pathToFileURL(workerData.path);
file.search = 'mode=rw';
const db = new DatabaseSync(file);
const carry = db.prepare('PRAGMA wal_checkpoint(PASSIVE)');

parentPort?.on('message', (told: 'carry' | 'end') => {
  if (told === 'end') {
    db.close();
    parentPort?.close();
    return;
  }
  let failed: string | null = null;
  try {
    carry.get();
  } catch (error) {
    failed = error instanceof Error && 'errstr' in error ? String(error.errstr) : 'the thread failed';
  }
  parentPort?.postMessage(failed);
});
