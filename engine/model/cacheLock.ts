// One process at a time does a thing named by a file; the others wait for it. The holder touches the file, so that a holder that died,
// on this machine or on another one that shares the folder, is noticed. Correctness never hangs on it alone: what is made under the
// lock gets its name by an atomic rename after its digest was checked.
import { randomUUID } from 'node:crypto';
import { readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from './sourceErrors.ts';

const HEARTBEAT_MS = 2000;
/** Long enough for a machine that swaps, short enough to wait for. */
const STALE_MS = 30_000;
const RETRY_MS = 200;

/** Resolves with the release. `onWait` is called at each look while somebody else holds it. */
export async function acquireLock(
  path: string,
  onWait?: () => void,
  signal?: AbortSignal,
): Promise<() => Promise<void>> {
  const token = randomUUID();
  for (;;) {
    signal?.throwIfAborted();
    try {
      await writeFile(path, JSON.stringify({ pid: process.pid, host: hostname(), token }), { flag: 'wx' });
      break;
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error;
    }
    if (await isStale(path)) await rm(path, { force: true });
    else {
      onWait?.();
      await sleep(RETRY_MS, undefined, signal ? { signal } : {});
    }
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, HEARTBEAT_MS);
  heartbeat.unref();
  return async () => {
    clearInterval(heartbeat);
    const held = await readFile(path, 'utf8').catch(() => '');
    if (held.includes(token)) await rm(path, { force: true });
  };
}

async function isStale(path: string): Promise<boolean> {
  try {
    const { mtimeMs } = await stat(path);
    if (Date.now() - mtimeMs > STALE_MS) return true;
    const holder: { pid?: unknown; host?: unknown } = JSON.parse(await readFile(path, 'utf8'));
    return holder.host === hostname() && typeof holder.pid === 'number' && !isAlive(holder.pid);
  } catch {
    return false; // just released, or just being written: the next look tells
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}
