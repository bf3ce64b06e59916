// For what happens by itself, in its own time: asks again and again.
import { setTimeout as sleep } from 'node:timers/promises';

const ASK_MS = 50;

/** Throws with `what` after `limitMs`. */
export async function eventually(what: string, holds: () => Promise<boolean>, limitMs = 15_000): Promise<void> {
  for (let waitedMs = 0; !(await holds()); waitedMs += ASK_MS) {
    if (waitedMs > limitMs) throw new Error(`never: ${what}`);
    await sleep(ASK_MS);
  }
}
