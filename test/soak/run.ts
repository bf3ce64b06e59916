// `npm run soak -- 20m [--clients N] [--seed N] [--engine]`: the product under load for so long (s, m or h), and what it has left of itself
// afterwards. What is kept up to a bound (65,536 ids of KV events, the database's pages) has to be full by the middle, or it looks like a leak: with
// 16 clients that takes ten minutes. Ends with 1 where something grows or is not given back. Linux only: it reads /proc.
import { parseArgs } from 'node:util';
import { realEngine } from '../chaos/realEngine.ts';
import type { Figure } from './slopes.ts';
import { soak } from './soak.ts';

const UNIT_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000 };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    clients: { type: 'string', default: '16' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    engine: { type: 'boolean', default: false },
  },
});
const [, count, unit] = /^(\d+)([smh])$/.exec(positionals[0] ?? '20m') ?? [];
const durationMs = Number(count) * (UNIT_MS[unit ?? ''] ?? Number.NaN);
const [clients, seed] = [Number(values.clients), Number(values.seed)];
if (!Number.isFinite(durationMs) || !(clients >= 1) || !Number.isInteger(seed)) {
  console.error('usage: npm run soak -- [20m] [--clients N] [--seed N] [--engine]; the time as 90s, 20m or 2h');
  process.exit(2);
}
const real = values.engine ? await realEngine() : null;
console.log(`seed ${seed}, ${clients} clients, ${durationMs / 1000} s`);
const report = await soak({
  ...{ durationMs, clients, seed, model: real?.model ?? 'bytes' },
  ...(real && { engine: real.engine }),
  say: (line) => console.log(line),
});
await real?.close();
for (const [name, n] of [...report.tally].sort()) console.log(`  ${String(n).padStart(8)} × ${name}`);
const shown = (figure: Figure, value: number) =>
  figure.endsWith('Bytes') ? `${(value / 1e6).toFixed(1)} MB` : value.toFixed(1);
console.log('of the second half: first, last, growth per hour ± standard error');
for (const { process, figure, slope } of report.slopes) {
  const { first, last, perHour, standardError, leaks } = slope;
  const cells = [first, last, perHour, standardError].map((value) => shown(figure, value).padStart(10));
  console.log(`  ${process.padEnd(8)} ${figure.padEnd(10)} ${cells.join(' ')}${leaks ? '  grows' : ''}`);
}
for (const [process, ms] of Object.entries(report.worstLagMs))
  console.log(`  ${process}: event loop at most ${ms.toFixed(0)} ms late`);
console.log(report.faults.length === 0 ? 'No fault.' : 'Faults:');
for (const fault of report.faults) console.log(`  ${fault}`);
process.exit(report.faults.length === 0 ? 0 : 1);
