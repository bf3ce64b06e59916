// A start with everything cached on disk: from the process' beginning to the first token of a chat, through gateway, pool and engine; the same from
// asleep, with an empty device; and how much memory the processes had at most.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type System, startSystem } from '../../test/support/system.ts';
import { type Bench, type Figures, inTurn } from '../bench.ts';
import type { Row } from '../report.ts';

/** Highest resident size so far, in MB; 0 where the system doesn't tell. */
function peakMegabytes(pid: number): number {
  try {
    const [, kibibytes = '0'] = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return (Number(kibibytes) * 1024) / 1e6;
  } catch {
    return 0;
  }
}

/** Long enough for the chat of the start to begin before. */
const SLEEP_AFTER_MS = 2000;

/** Milliseconds until the first token of a chat. */
async function firstToken({ client }: System, model: string): Promise<number> {
  const began = performance.now();
  const stream = await client.chat.completions.create({
    ...{ model, stream: true, max_tokens: 4, messages: [{ role: 'user', content: 'Hello!' }] },
  });
  let firstMs = Number.NaN;
  for await (const { choices } of stream)
    if (choices[0]?.delta.content && Number.isNaN(firstMs)) firstMs = performance.now() - began;
  return firstMs;
}

async function untilAsleep({ baseURL, adminKey }: System): Promise<void> {
  for (;;) {
    const answer = await fetch(new URL('/metrics', baseURL), { headers: { authorization: `Bearer ${adminKey}` } });
    if (/^hearth_gateway_pool_state\{[^}]*state="asleep"\} 1$/m.test(await answer.text())) return;
    await sleep(100);
  }
}

async function measure(): Promise<Figures> {
  const began = performance.now();
  const system = await startSystem({ pool: { kvDiskBytes: 0, sleepAfterMs: SLEEP_AFTER_MS } });
  try {
    const readyMs = performance.now() - began;
    const [{ id: model } = { id: '' }] = (await system.client.models.list()).data;
    const startMs = readyMs + (await firstToken(system, model));
    const warmMs = await firstToken(system, model);
    await untilAsleep(system);
    const wakeMs = await firstToken(system, model);
    const sizes = system.pids('').map(peakMegabytes);
    const pool = system.pids('pool/main.ts').map(peakMegabytes);
    const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
    return {
      ...{ firstTokenSeconds: startMs / 1000, readySeconds: readyMs / 1000, allMb: sum(sizes), poolMb: sum(pool) },
      ...{ wakeSeconds: wakeMs / 1000, warmSeconds: warmMs / 1000, coldPerWake: startMs / wakeMs },
    };
  } finally {
    await system.stop();
  }
}

export async function start(bench: Bench): Promise<Row[]> {
  // The first one fills the caches: model digest, shaders, measured kernels.
  await measure();
  const [figures = {}] = await inTurn(bench, [{ name: 'npm start', measure }]);
  return [
    { name: 'start to first token', value: figures.firstTokenSeconds!, unit: 's', engine: 'hearth', most: 3 },
    { name: 'start to ready', value: figures.readySeconds!, unit: 's', engine: 'hearth' },
    { name: 'asleep to first token', value: figures.wakeSeconds!, unit: 's', engine: 'hearth' },
    { name: 'warm to first token', value: figures.warmSeconds!, unit: 's', engine: 'hearth' },
    { name: 'start per wake, to first token', value: figures.coldPerWake!, unit: '×', engine: 'hearth', aim: 5 },
    { name: 'peak memory, all processes', value: figures.allMb!, unit: 'MB', engine: 'hearth' },
    { name: 'peak memory, pool', value: figures.poolMb!, unit: 'MB', engine: 'hearth' },
  ];
}
