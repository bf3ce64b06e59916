// Preloaded (`--import`) into each process that a soak watches, and so into its threads: at SIGUSR2 all of them collect garbage, and the process
// writes down what only it knows: live bytes of its heaps, what keeps its event loop busy, how late that loop was.
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { BroadcastChannel, isMainThread, threadId } from 'node:worker_threads';
import type { OwnVitals } from './watch.ts';

/** For a thread that is in the middle of a step. */
const THREAD_ANSWERS_MS = 2000;

interface Said {
  thread: number;
  /** null: it has just begun. */
  liveBytes: number | null;
}

const folder = process.env.HEARTH_SOAK_VITALS;
if (folder !== undefined) {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const live = (): number => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const asked = new BroadcastChannel('soak: collect');
  const said = new BroadcastChannel('soak: live bytes');
  for (const channel of [asked, said]) channel.unref();
  if (isMainThread) watchProcess(folder, live, asked, said);
  else {
    const say = (liveBytes: number | null) => said.postMessage({ thread: threadId, liveBytes } satisfies Said);
    asked.onmessage = () => say(live());
    say(null);
  }
}

function watchProcess(into: string, live: () => number, asked: BroadcastChannel, said: BroadcastChannel): void {
  const lag = monitorEventLoopDelay({ resolution: 10 });
  lag.enable();
  /** Threads that have ever spoken; those that don't answer are gone. */
  const threads = new Map<number, number | null>();
  said.onmessage = ({ data }: { data: unknown }) => {
    const { thread, liveBytes } = data as Said;
    threads.set(thread, liveBytes);
  };
  let serial = 0;
  const write = async () => {
    const lagMs = serial === 0 ? 0 : lag.max / 1e6;
    for (const thread of threads.keys()) threads.set(thread, null);
    if (threads.size > 0) asked.postMessage('now');
    for (let waited = 0; waited < THREAD_ANSWERS_MS && [...threads.values()].includes(null); waited += 10)
      await sleep(10, undefined, { ref: false });
    for (const [thread, liveBytes] of threads) if (liveBytes === null) threads.delete(thread);
    const liveBytes = [...threads.values()].reduce<number>((sum, bytes) => sum + (bytes ?? 0), live());
    const told: OwnVitals = { serial: serial++, liveBytes, resources: process.getActiveResourcesInfo().length, lagMs };
    lag.reset();
    const path = join(into, `${process.pid}.json`);
    writeFileSync(`${path}~`, JSON.stringify(told));
    renameSync(`${path}~`, path);
  };
  process.on('SIGUSR2', () => void write());
  void write(); // who finds the file may send the signal
}
