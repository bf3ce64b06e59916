// What a process holds at a moment, from outside (/proc) and from within (vitals.ts, preloaded). Linux only.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

const ownVitals = z.object({
  /** Of its answers. */
  serial: z.int(),
  /** Of all threads: on their heaps after a collection, and in buffers. */
  liveBytes: z.number(),
  /** Handles, timers and requests that keep its event loop alive. */
  resources: z.int(),
  /** Longest that its event loop was late since the last answer. */
  lagMs: z.number(),
});
export type OwnVitals = z.infer<typeof ownVitals>;

export interface Vitals extends Omit<OwnVitals, 'serial'> {
  /** Resident memory that no file stands for. */
  anonBytes: number;
  fds: number;
}

const VITALS = new URL('./vitals.ts', import.meta.url).href;
const ANSWER_MS = 20_000;
const LOOK_MS = 10;

export class Watch {
  readonly #folder = mkdtempSync(join(tmpdir(), 'hearth-vitals-'));

  /** For the environment of a process that is to be watched. */
  get env(): Record<string, string> {
    return { HEARTH_SOAK_VITALS: this.#folder, NODE_OPTIONS: `--import=${VITALS}` };
  }

  /** null: it is gone, or has not come up yet. Throws when it lives and says nothing. */
  async of(pid: number): Promise<Vitals | null> {
    const before = this.#told(pid);
    if (!before) return null;
    try {
      process.kill(pid, 'SIGUSR2');
    } catch {
      return null;
    }
    for (let waited = 0; waited < ANSWER_MS; waited += LOOK_MS) {
      await sleep(LOOK_MS);
      const { serial, ...own } = this.#told(pid) ?? before;
      if (serial > before.serial) {
        const outside = outsideOf(pid);
        return outside && { ...own, ...outside };
      }
      if (!outsideOf(pid)) return null;
    }
    throw new Error(`process ${pid} does not answer`);
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #told(pid: number): OwnVitals | null {
    const path = join(this.#folder, `${pid}.json`);
    return existsSync(path) ? ownVitals.parse(JSON.parse(readFileSync(path, 'utf8'))) : null;
  }
}

function outsideOf(pid: number): Pick<Vitals, 'anonBytes' | 'fds'> | null {
  try {
    const [, kilobytes] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    if (kilobytes === undefined) return null; // a zombie has none
    return { anonBytes: Number(kilobytes) * 1024, fds: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return null;
  }
}
