// `npm run bench:kernels -- [OPERATION…]`: each kernel by itself, beside what the adapter can do at most. Options:
//   --json FILE   --rounds N (5)   --quick (a case of each)
// The adapter is found as `npm start` finds it (HEARTH_ADAPTER). Figures are the best of the rounds, medians behind them: others on the machine
// can only slow a kernel down.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { prepareAdapter } from '../../bin/prepare.ts';
import { ProgressLine } from '../../bin/progressLine.ts';
import { median, type Row, report, save } from '../report.ts';
import { OPERATIONS } from './operations.ts';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    quick: { type: 'boolean', default: false },
  },
});
const known = OPERATIONS.map(({ name }) => name);
const unknown = positionals.find((name) => !known.includes(name));
if (unknown !== undefined) {
  console.error(`there is no operation ${unknown}; there are: ${known.join(', ')}`);
  process.exit(1);
}

interface Measured {
  operation: string;
  parameters: Record<string, string | number>;
  macs: number;
  bytes: number;
  seconds: number[];
}

const progress = new ProgressLine(process.stdout, Date.now);
const adapter = await prepareAdapter(progress, process.env.HEARTH_ADAPTER || 'auto', process.env);
progress.end();
const operations = positionals.length > 0 ? positionals : known;
const task = { dawnFlags: adapter.dawnFlags, operations, rounds: Number(options.rounds), quick: options.quick };
const child = spawnSync(
  process.execPath,
  [fileURLToPath(new URL('./measure.ts', import.meta.url)), JSON.stringify(task)],
  {
    encoding: 'utf8',
    env: { ...process.env, ...adapter.env },
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 24,
  },
);
const line = child.stdout.trim().split('\n').at(-1);
if (child.status !== 0 || !line) throw new Error(`measuring ended with ${child.status ?? child.signal}`);
const {
  adapter: adapterName,
  clock,
  rows: measured,
}: { adapter: string; clock: string; rows: Measured[] } = JSON.parse(line);

const best = (given: Measured): number => Math.min(...given.seconds);
const rate = (amount: number, seconds: number): number => amount / seconds / 1e9;
/** The highest rate that any probe of the peaks had. */
const peakOf = (amount: 'macs' | 'bytes'): number =>
  Math.max(
    ...measured.filter(({ operation }) => operation === 'peak').map((given) => rate(given[amount], best(given))),
  );
const fmaPeak = Math.max(
  ...measured.filter(({ parameters }) => parameters.peak === 'fma').map((given) => rate(given.macs, best(given))),
);
const loadPeak = peakOf('bytes');

const rows: Row[] = measured.flatMap((given) => {
  const { operation, parameters, macs, bytes, seconds } = given;
  const common = { operation, ...parameters, rounds: seconds.length, clock };
  const of = (name: string, value: number, middle: number, unit: string): Row[] =>
    value > 0 ? [{ name, value, median: middle, unit, ...common }] : [];
  return [
    ...of('arithmetic', 2 * rate(macs, best(given)), 2 * rate(macs, median(seconds)), 'GFLOP/s'),
    ...of('memory', rate(bytes, best(given)), rate(bytes, median(seconds)), 'GB/s'),
    ...of('share of FMA peak', rate(macs, best(given)) / fmaPeak, rate(macs, median(seconds)) / fmaPeak, ''),
    ...(loadPeak > 0
      ? of('share of load peak', rate(bytes, best(given)) / loadPeak, rate(bytes, median(seconds)) / loadPeak, '')
      : []),
  ];
});
const result = report(adapterName, rows);
console.log(
  `\n${result.adapter}; ${result.machine}; commit ${result.commit}; best (median) of ${options.rounds} rounds by ${clock}`,
);
console.log(`${''.padEnd(58)}GFLOP/s        of FMA peak  GB/s${loadPeak > 0 ? '   of load peak' : ''}      µs`);
for (const given of measured) {
  const { operation, parameters, macs, bytes, seconds } = given;
  const values = Object.entries(parameters).map(([key, value]) =>
    typeof value === 'number' ? `${key} ${value}` : value,
  );
  const s = best(given);
  const cells = [
    `${operation} ${values.join(', ')}`.padEnd(55),
    macs
      ? `${(2 * rate(macs, s)).toFixed(1).padStart(7)} (${(2 * rate(macs, median(seconds))).toFixed(1)})`.padEnd(17)
      : ''.padEnd(17),
    macs ? `${((100 * rate(macs, s)) / fmaPeak).toFixed(0).padStart(5)} %` : ''.padEnd(7),
    bytes ? rate(bytes, s).toFixed(1).padStart(9) : ''.padEnd(9),
    bytes && loadPeak > 0 ? `${((100 * rate(bytes, s)) / loadPeak).toFixed(0).padStart(8)} %` : ''.padEnd(10),
    (s * 1e6).toFixed(0).padStart(12),
  ];
  console.log(cells.join(' '));
}
save(options.json, result);
