// How long the adapter was at work. A software adapter computes on a thread of this process (LP_NUM_THREADS=0: on one): its time on a core, which
// the kernel counts, stays right on a machine that others use too. Elsewhere, and for hardware, it is the time that passed.

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

/** Seconds on a core of all threads but the one that asks: it polls for the device while it waits. */
function otherThreads(): number {
  const all = process.cpuUsage();
  const own = process.threadCpuUsage();
  return (all.user + all.system - own.user - own.system) / 1e6;
}

const driverThreadClock: Clock = {
  name: "CPU time of the driver's thread",
  start() {
    const before = otherThreads();
    return () => otherThreads() - before;
  },
};

export function clockFor(software: boolean): Clock {
  return software && process.env.LP_NUM_THREADS === '0' ? driverThreadClock : wallClock;
}
