// When a leg is given up, second by second on a clock of its own: neither too late, nor because a pool thinks for long or a client reads slowly.
import { expect, test } from 'vitest';
import type { Clock } from '../clock.ts';
import { LEASE_MS, Vigil } from './vigil.ts';

class SteppedClock implements Clock {
  #nowMs = 1_000_000;
  #sleeping: { untilMs: number; wake: () => void }[] = [];

  now(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((wake) => {
      this.#sleeping.push({ untilMs: this.#nowMs + ms, wake });
      signal?.addEventListener('abort', () => wake(), { once: true });
    });
  }

  async step(ms: number): Promise<void> {
    this.#nowMs += ms;
    const due = this.#sleeping.filter(({ untilMs }) => untilMs <= this.#nowMs);
    this.#sleeping = this.#sleeping.filter((one) => !due.includes(one));
    for (const { wake } of due) wake();
    for (let i = 0; i < 5; i++) await Promise.resolve();
  }
}

interface Leg {
  vigil: Vigil;
  givenUpAfterS: () => number | null;
  askedMs: number[];
  /** Whole seconds; `each` comes before the look of that second. */
  pass: (seconds: number, each?: (vigil: Vigil) => void) => Promise<void>;
  standStill: (seconds: number) => Promise<void>;
}

function leg({ answers, forS = 3600 }: { answers: boolean; forS?: number }): Leg {
  const clock = new SteppedClock();
  const fromMs = clock.now();
  const pool = { askedAtMs: Number.NEGATIVE_INFINITY, answeredAtMs: Number.NEGATIVE_INFINITY };
  let givenUpAtMs: number | null = null;
  const askedMs: number[] = [];
  const ask = () => {
    pool.askedAtMs = clock.now();
    askedMs.push(clock.now());
    if (answers) pool.answeredAtMs = clock.now();
  };
  const giveUp = () => {
    givenUpAtMs = clock.now();
  };
  const untilMs = fromMs + forS * 1000;
  const vigil = new Vigil({ clock, pool, untilMs, ask, giveUp }, new AbortController().signal);
  return {
    ...{ vigil, askedMs },
    givenUpAfterS: () => (givenUpAtMs === null ? null : (givenUpAtMs - fromMs) / 1000),
    pass: async (seconds, each = () => {}) => {
      for (let second = 0; second < seconds; second++) {
        each(vigil);
        await clock.step(1000);
      }
    },
    standStill: (seconds) => clock.step(seconds * 1000),
  };
}

test('a pool that is silent and answers nothing is lost in seconds, before its stream begins and after', async () => {
  const before = leg({ answers: false });
  await before.pass(20);
  expect(before.givenUpAfterS()).toBe(6);
  expect(before.vigil.lost).toBe(true);
  const after = leg({ answers: false });
  after.vigil.opened();
  await after.pass(3, ({ heard }) => heard());
  await after.pass(20);
  expect(after.givenUpAfterS()).toBe(8);
});

test('a pool that wakes, or prefills, for ten minutes is not lost', async () => {
  const before = leg({ answers: true });
  await before.pass(600);
  expect(before.givenUpAfterS()).toBeNull();
  const after = leg({ answers: true });
  after.vigil.opened();
  await after.pass(600, ({ heard }) => heard());
  expect(after.givenUpAfterS()).toBeNull();
});

test('a leg whose time is over is given up, and its pool is not to blame', async () => {
  const { vigil, pass, givenUpAfterS } = leg({ answers: true, forS: 4.5 });
  vigil.opened();
  await pass(10, ({ heard }) => heard());
  expect(givenUpAfterS()).toBe(5); // the clock goes by seconds
  expect(vigil.lost).toBe(false);
});

test('an open stream without a sign of life is lost although its pool answers', async () => {
  const { vigil, pass, givenUpAfterS } = leg({ answers: true });
  vigil.opened();
  await pass(30);
  expect(givenUpAfterS()).toBe(15);
});

test('signs of life count also where questions fail: a pool too busy to answer streams on', async () => {
  const { vigil, pass, givenUpAfterS } = leg({ answers: false });
  vigil.opened();
  await pass(60, ({ heard }) => heard());
  expect(givenUpAfterS()).toBeNull();
});

test('while a client is waited for the pool is not', async () => {
  const { vigil, pass, givenUpAfterS } = leg({ answers: false });
  vigil.opened();
  vigil.rest();
  await pass(60, ({ heard }) => heard());
  expect(givenUpAfterS()).toBeNull();
  vigil.resume();
  await pass(20);
  expect(givenUpAfterS()).toBe(66);
});

test('a gateway that stood still for a minute blames nobody for it', async () => {
  const { vigil, pass, standStill, givenUpAfterS } = leg({ answers: true });
  vigil.opened();
  await pass(5, ({ heard }) => heard());
  await standStill(60);
  await pass(30, ({ heard }) => heard());
  expect(givenUpAfterS()).toBeNull();
});

test('a pool is asked several times in a lease, whatever comes from it', async () => {
  const { askedMs, pass } = leg({ answers: true });
  await pass(60, ({ heard }) => heard());
  const pauses = askedMs.slice(1).map((atMs, i) => atMs - (askedMs[i] ?? 0));
  expect(Math.max(...pauses)).toBeLessThan(LEASE_MS / 4);
});
