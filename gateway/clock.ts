// Time and randomness as ports, so that every decision of the gateway can be replayed in a test.

export interface Clock {
  /** Unix milliseconds. */
  now(): number;
  /** Resolves after `ms`, or at once when the signal aborts; never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Cryptographically secure bytes. */
export type RandomBytes = (count: number) => Uint8Array;

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const wake = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      signal?.addEventListener('abort', wake, { once: true });
    }),
};

/** Waits for what is asked, or so long. Throws what it throws in that time. */
export async function within(ms: number, asked: Promise<unknown>, clock: Clock): Promise<void> {
  // What is there already needs no clock.
  if (await Promise.race([asked, null])) return;
  const answered = new AbortController();
  // Without a reason an error would be made, which costs more than all the rest of this.
  const over = () => answered.abort('over');
  asked.then(over, over);
  await Promise.race([asked, clock.sleep(ms, answered.signal)]);
}
