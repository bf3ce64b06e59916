// Whether a gateway gets slower as it fills: with ten tenants and an empty ledger, with many tenants, and with a long ledger, in turn. Of many
// tenants each has asked once before it is measured, as in the life of a gateway; what their first requests cost, after a start, is measured by
// itself.
import { execFileSync } from 'node:child_process';
import { median, type Row } from '../report.ts';
import { type Answering, type Contender, MODEL, startHearth, untilReady } from './contenders.ts';
import { fill } from './fill.ts';
import { residentBytes } from './idle.ts';
import { chatBody, type LoadResult, load, quantile, type Target, WARMING } from './load.ts';

const FEW_TENANTS = 10;
/** Of the throughput with few tenants and an empty ledger. */
const FLAT = 0.9;
const CONCURRENCY = 32;

/** Which tenants a round asks for: any, all of which have asked before, or others than any before it, as after a start. */
type Asking = 'again' | 'first';

interface Arm {
  tenants: number;
  rows: number;
  asking: Asking;
  contender: Contender;
  targets: Target[];
  /** Of a target for each request that is measured, all rounds long. */
  draw: Iterator<number, never>;
  results: LoadResult[];
}

/** 32-bit LCG (Numerical Recipes): the same tenants in every run. */
function* draws(most: number): Generator<number, never> {
  for (let state = 1; ; state = (Math.imul(state, 1664525) + 1013904223) >>> 0) yield state % most;
}

function* from(first: number, most: number): Generator<number, never> {
  for (let next = first; ; next++) yield next % most;
}

interface Size {
  tenants: number;
  rows: number;
  asking: Asking;
}

async function arm(answering: Answering, { tenants, rows, asking }: Size, warming: number): Promise<Arm> {
  let keys: string[] = [];
  const contender = await startHearth(answering, 'NORMAL', async (dataDir) => {
    const began = performance.now();
    keys = await fill(dataDir, tenants, rows);
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    console.log(`filled a ledger with ${tenants} tenants and ${rows} settled requests by SQL in ${seconds} s`);
  });
  const targets = keys.map((key) => ({ ...contender.target, headers: { authorization: `Bearer ${key}` } }));
  const draw = asking === 'first' ? from(warming, tenants) : draws(tenants);
  return { tenants, rows, asking, contender, targets, draw, results: [] };
}

export async function scale(
  answering: Answering,
  { rounds, requests, tenants, rows }: { rounds: number; requests: number; tenants: number; rows: number },
): Promise<Row[]> {
  const warming = WARMING * requests;
  const sizes: Size[] = [
    { tenants: FEW_TENANTS, rows: 0, asking: 'again' },
    { tenants, rows: 0, asking: 'again' },
    { tenants, rows: 0, asking: 'first' },
    { tenants: FEW_TENANTS, rows, asking: 'again' },
  ];
  const arms: Arm[] = [];
  try {
    for (const size of sizes) arms.push(await arm(answering, size, warming));
    // What filling left to be written would be written while others are measured.
    execFileSync('sync');
    for (const one of arms) {
      await untilReady(one.contender.target.port);
      // Not measured: compilers and files get warm, for as long in each of those that are compared, and whoever asks again has asked.
      const count = one.asking === 'again' ? Math.max(warming, tenants) : warming;
      await ask(
        one,
        Array.from({ length: count }, (_, i) => i % one.tenants),
      );
    }
    for (let round = 1; round <= rounds; round++)
      for (const one of round % 2 ? arms : arms.toReversed())
        one.results.push(
          await ask(
            one,
            Array.from({ length: requests }, () => one.draw.next().value),
          ),
        );
    return rowsOf(arms);
  } finally {
    for (const { contender } of arms) await contender.stop();
  }
}

function ask({ contender, targets }: Arm, which: readonly number[]): Promise<LoadResult> {
  const drawn = which.map((index) => targets[index] ?? contender.target);
  return load(drawn, contender.pid, {
    body: chatBody(MODEL, false),
    requests: which.length,
    concurrency: CONCURRENCY,
  });
}

function rowsOf(arms: readonly Arm[]): Row[] {
  const [first] = arms;
  const throughput = ({ results }: Arm) => median(results.map((result) => result.requestsPerSecond));
  /** Round by round, since the machine's own speed changes more than the gateway's. */
  const ratio = (arm: Arm, to: Arm) =>
    median(arm.results.map(({ requestsPerSecond }, i) => requestsPerSecond / (to.results[i]?.requestsPerSecond ?? 0)));
  return arms.flatMap((one) => {
    const { tenants, rows, asking, contender, results } = one;
    const filled = `${tenants}${asking === 'first' ? ' new' : ''} tenants, ${rows} rows`;
    const row = (name: string, unit: string, value: number): Row => ({
      ...{ name: `${filled}: ${name}`, value, unit, engine: 'hearth', tenants, rows },
    });
    const aim = asking === 'again' ? { aim: FLAT } : {};
    return [
      row('requests/s', '/s', throughput(one)),
      row('p99', 'ms', median(results.map(({ latencyMs }) => quantile(latencyMs, 0.99)))),
      row('CPU', 'ms', median(results.map(({ cpuMs }) => cpuMs))),
      row('memory', 'MB', residentBytes(contender.pid) / 1e6),
      ...(first && one !== first ? [{ ...row('throughput / first', '×', ratio(one, first)), ...aim }] : []),
    ];
  });
}
