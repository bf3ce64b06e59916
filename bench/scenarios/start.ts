// A start with everything cached on disk: from the process' beginning to the first token of a chat, through gateway, pool and engine; and how much
// memory the processes had at most.
import { readFileSync } from 'node:fs';
import { startSystem } from '../../test/support/system.ts';
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

async function measure(): Promise<Figures> {
  const began = performance.now();
  const system = await startSystem({ pool: { kvDiskBytes: 0 } });
  try {
    const readyMs = performance.now() - began;
    const [{ id: model } = { id: '' }] = (await system.client.models.list()).data;
    const stream = await system.client.chat.completions.create({
      ...{ model, stream: true, max_tokens: 4, messages: [{ role: 'user', content: 'Hello!' }] },
    });
    let firstMs = Number.NaN;
    for await (const { choices } of stream)
      if (choices[0]?.delta.content && Number.isNaN(firstMs)) firstMs = performance.now() - began;
    const sizes = system.pids('').map(peakMegabytes);
    const pool = system.pids('pool/main.ts').map(peakMegabytes);
    const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
    return { firstTokenSeconds: firstMs / 1000, readySeconds: readyMs / 1000, allMb: sum(sizes), poolMb: sum(pool) };
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
    { name: 'peak memory, all processes', value: figures.allMb!, unit: 'MB', engine: 'hearth' },
    { name: 'peak memory, pool', value: figures.poolMb!, unit: 'MB', engine: 'hearth' },
  ];
}
