// `npm run bench:gateway`: what the gateway adds to a request, with authentication, reservation, ledger and durable settlement on, beside
// Portkey's gateway and beside a hop that does nothing, in one run, in turn, before an upstream that answers at once; then what idle streams
// take, and whether it stays as fast with many tenants and a long ledger. Options:
//   --rounds N (3)   --requests N (3000) at concurrency 32, a sixth of it at 1   --json FILE (bench/results/…)   --no-peers
//   (with many tenants and a long ledger: 2 × rounds + 1, each of twice as many)
//   --idle N (1000 idle streams; 0: not)   --tenants N (100,000)
//   --rows N (10,000,000 settled requests in the long ledger, which take 5 GB and minutes; 0: neither many tenants nor a long ledger)
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { aims } from './gateway/aims.ts';
import {
  type Contender,
  direct,
  MODEL,
  startBareHop,
  startHearth,
  startPortkey,
  startUpstream,
} from './gateway/contenders.ts';
import { idleStreams } from './gateway/idle.ts';
import { chatBody, type LoadResult, load, quantile, WARMING } from './gateway/load.ts';
import { scale } from './gateway/scale.ts';
import { line } from './line.ts';
import { median, type Row, report, save } from './report.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    requests: { type: 'string', default: '3000' },
    idle: { type: 'string', default: '1000' },
    tenants: { type: 'string', default: '100000' },
    rows: { type: 'string', default: '10000000' },
    json: { type: 'string' },
    'no-peers': { type: 'boolean', default: false },
  },
});
const number = (name: 'rounds' | 'requests' | 'idle' | 'tenants' | 'rows', least: number): number => {
  const value = Number(options[name]);
  if (!Number.isInteger(value) || value < least) throw new Error(`--${name} takes a whole number from ${least}`);
  return value;
};
const rounds = number('rounds', 1);
const requests = number('requests', 1);
const idle = number('idle', 0);
const size = { tenants: number('tenants', 1), rows: number('rows', 0) };

/** Short, so that the gateway's part is seen. */
const ANSWERING = { tokens: 8, holdOpenMs: 60_000 };
const CELLS = [
  { name: 'plain', stream: false, concurrency: 1 },
  { name: 'streamed', stream: true, concurrency: 1 },
  { name: 'plain', stream: false, concurrency: 32 },
  { name: 'streamed', stream: true, concurrency: 32 },
] as const;

const upstream = await startUpstream(ANSWERING);
const contenders: Contender[] = [
  direct(upstream),
  await startBareHop(upstream),
  await startHearth(ANSWERING, 'NORMAL'),
  await startHearth(ANSWERING, 'FULL'),
  ...(options['no-peers'] ? [] : [await startPortkey(upstream)]),
];
const measured = new Map<string, LoadResult[]>();
const keyOf = (contender: string, cell: number): string => `${contender} ${cell}`;
try {
  for (let round = 0; round <= rounds; round++)
    for (const { name, target, pid } of round % 2 ? contenders.toReversed() : contenders)
      for (const [cell, { stream, concurrency }] of CELLS.entries()) {
        const count = Math.max(1, Math.round(concurrency === 1 ? requests / 6 : requests));
        const warming = concurrency === 1 ? Math.min(count, 300) : count * WARMING;
        const work = { body: chatBody(MODEL, stream), requests: round === 0 ? warming : count, concurrency };
        const result = await load([target], pid, work);
        if (round > 0) measured.set(keyOf(name, cell), [...(measured.get(keyOf(name, cell)) ?? []), result]);
      }
  const rows: Row[] = [];
  for (const [cell, { name: mode, concurrency }] of CELLS.entries())
    for (const { name: gateway } of contenders) {
      const results = measured.get(keyOf(gateway, cell)) ?? [];
      const row = (name: string, unit: string, of: (result: LoadResult) => number): void => {
        rows.push({ name, unit, value: median(results.map(of)), gateway, mode, concurrency });
      };
      row('p50', 'ms', ({ latencyMs }) => quantile(latencyMs, 0.5));
      row('p99', 'ms', ({ latencyMs }) => quantile(latencyMs, 0.99));
      row('first_event_p50', 'ms', ({ firstEventMs }) => quantile(firstEventMs, 0.5));
      row('throughput', 'requests/s', ({ requestsPerSecond }) => requestsPerSecond);
      row('cpu', 'ms/request', ({ cpuMs }) => cpuMs);
    }
  if (idle > 0)
    for (const { name, pid, target } of contenders.slice(1)) rows.push(...(await idleStreams(name, pid, target, idle)));
  await stopContenders();
  print(rows);
  // Its ratios are near to what they are held against: more rounds tell, and longer ones.
  const finer = { rounds: 2 * rounds + 1, requests: 2 * requests };
  const filled = size.rows > 0 ? await scale(ANSWERING, { ...finer, ...size }) : [];
  const aimed = [...aims(rows), ...filled];
  for (const row of aimed) console.log(line(row));
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, '-');
  const file = options.json ?? fileURLToPath(new URL(`./results/gateway-${stamp}.json`, import.meta.url));
  mkdirSync(dirname(file), { recursive: true });
  save(file, report('none', [...rows, ...aimed]));
  console.log(`\n${file}`);
} finally {
  await stopContenders();
  await upstream.stop();
}

async function stopContenders(): Promise<void> {
  for (const contender of contenders.splice(0)) await contender.stop();
}

function print(rows: readonly Row[]): void {
  const { machine, commit } = report('none', []);
  console.log(
    `${machine}, commit ${commit}, Node ${process.version}, medians of ${rounds} rounds, ${sqliteFolder()}\n`,
  );
  console.log(
    'mode      concurrency  gateway                    p50 ms   added    p99 ms   first event   requests/s   CPU ms',
  );
  const of = (name: string, gateway: string, mode: string, concurrency: number): number =>
    rows.find(
      (row) => row.name === name && row.gateway === gateway && row.mode === mode && row.concurrency === concurrency,
    )?.value ?? Number.NaN;
  for (const { name: mode, concurrency } of CELLS)
    for (const gateway of new Set(rows.filter((row) => row.mode === mode).map((row) => String(row.gateway)))) {
      const figure = (name: string): number => of(name, gateway, mode, concurrency);
      const added = figure('p50') - of('p50', 'no gateway', mode, concurrency);
      console.log(
        `${mode.padEnd(10)}${String(concurrency).padStart(11)}  ${gateway.padEnd(25)}${cells([figure('p50'), added, figure('p99'), figure('first_event_p50')], 3, 9)}` +
          `${figure('throughput').toFixed(0).padStart(16)}${figure('cpu').toFixed(2).padStart(9)}`,
      );
    }
  console.log();
}

function cells(values: readonly number[], digits: number, width: number): string {
  return values.map((value) => value.toFixed(digits).padStart(width)).join('');
}

/** The file system of the temporary folder decides what a durable write costs. */
function sqliteFolder(): string {
  const mounts = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  const folder = process.env.TMPDIR ?? '/tmp';
  const mount = mounts
    .filter(([, at]) => at && (folder === at || folder.startsWith(at === '/' ? '/' : `${at}/`)))
    .sort((a, b) => (b[1]?.length ?? 0) - (a[1]?.length ?? 0))[0];
  return `ledger on ${mount?.[2] ?? 'an unknown file system'}`;
}
