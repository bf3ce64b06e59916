// Streams and whether anybody is at their other end. A dead link closes no connection: what is written into it seems to be sent for a quarter
// of an hour. So a pool tells each silent stream that it lives, and a gateway asks it something at least once in the lease that its requests
// carry: where nothing signed with their key has come for so long they are ended, and nobody's tokens are computed any more.
//
//   each second, each open stream:  its key silent for its lease ─▶ lost      nothing sent since the last look ─▶ a comment
import type { EventStream } from './eventStream.ts';

const LOOK_EVERY_MS = 1000;

interface Attended {
  stream: Pick<EventStream, 'over' | 'pulse'>;
  keyId: string;
  sinceMs: number;
  leaseMs: number;
  onLost: () => void;
}

export class Attendance {
  readonly #now: () => number;
  /** By key: as many as the pool has. */
  readonly #heardAtMs = new Map<string, number>();
  /** Running requests, and for a second those that have just ended. */
  readonly #attended = new Set<Attended>();
  #timer: NodeJS.Timeout | null = null;
  #lookedAtMs = 0;

  /** `now`: of a clock that nobody sets. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Something signed with this key has come. */
  heard(keyId: string): void {
    this.#heardAtMs.set(keyId, this.#now());
  }

  /** From its first event until it is over. `onLost` is to end the request; without a lease it is never called. */
  attend(
    stream: Attended['stream'],
    { keyId, leaseMs = Number.POSITIVE_INFINITY }: { keyId: string; leaseMs?: number },
    onLost: () => void,
  ): void {
    this.#attended.add({ stream, keyId, sinceMs: this.#now(), leaseMs, onLost });
    if (this.#timer) return;
    this.#lookedAtMs = this.#now();
    this.#timer = setInterval(() => this.look(), LOOK_EVERY_MS).unref();
  }

  look(): void {
    const nowMs = this.#now();
    // This process stood still itself: what came meanwhile has not been read.
    if (nowMs - this.#lookedAtMs > 2 * LOOK_EVERY_MS) for (const keyId of this.#heardAtMs.keys()) this.heard(keyId);
    this.#lookedAtMs = nowMs;
    for (const one of this.#attended) {
      const heardAtMs = Math.max(one.sinceMs, this.#heardAtMs.get(one.keyId) ?? 0);
      if (one.stream.over) this.#attended.delete(one);
      else if (nowMs - heardAtMs > one.leaseMs) one.onLost();
      else one.stream.pulse();
    }
    if (this.#attended.size > 0 || !this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}
