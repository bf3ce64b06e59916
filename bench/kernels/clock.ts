// How long the adapter was at work. A software adapter computes on a thread of this process (LP_NUM_THREADS=0: on one): its time on a core,
// which the kernel counts, stays right on a machine that others use too. Elsewhere, and for hardware, it is the time that passed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** Starts the clock; the function that it gives back reads it, in seconds. */
export interface Clock {
  name: string;
  start(): () => number;
}

const wallClock: Clock = {
  name: 'wall clock',
  start() {
    const began = performance.now();
    return () => (performance.now() - began) / 1000;
  },
};

const THREADS = '/proc/self/task';

/** Nanoseconds on a core of each thread but the one that runs JavaScript. */
function driverThreads(): Map<string, number> {
  const times = new Map<string, number>();
  for (const thread of readdirSync(THREADS)) {
    if (Number(thread) === process.pid) continue;
    const [nanoseconds = '0'] = readFileSync(`${THREADS}/${thread}/schedstat`, 'utf8').split(' ');
    times.set(thread, Number(nanoseconds));
  }
  return times;
}

const busiestThreadClock: Clock = {
  name: "CPU time of the driver's thread",
  start() {
    const before = driverThreads();
    return () => {
      let most = 0;
      for (const [thread, time] of driverThreads()) most = Math.max(most, time - (before.get(thread) ?? 0));
      return most / 1e9;
    };
  },
};

export function clockFor(software: boolean): Clock {
  const counted = software && process.env.LP_NUM_THREADS === '0' && existsSync(`${THREADS}/${process.pid}/schedstat`);
  return counted ? busiestThreadClock : wallClock;
}
