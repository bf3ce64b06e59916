// The thread that carries SQLite's log into the database file (shortLog.ts). Told to, it does and answers null, or why it could not.
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from './invariant.ts';
import { uncarriedPages } from './sqlite.ts';

/** What is written while a pass waits for the disk is left to the next, which so has less to do. */
const MOST_PASSES = 8;
/** So few pages its owner carries in a moment. */
const FEW_PAGES = 128;

invariant(parentPort, 'this is a thread');
const port = parentPort;
const db = new DatabaseSync(workerData.path);
const carry = db.prepare('PRAGMA wal_checkpoint(PASSIVE)');

port.on('message', (told: 'carry' | 'end') => {
  if (told === 'end') {
    db.close();
    port.close();
    return;
  }
  try {
    for (let pass = 0; pass < MOST_PASSES && uncarriedPages(db) > FEW_PAGES; pass++) carry.get();
    port.postMessage(null);
  } catch (error) {
    port.postMessage(error instanceof Error ? error.message : String(error));
  }
});
