// Whether a gateway gets slower as it fills: with ten tenants and an empty ledger, with many tenants, and with a long ledger, in turn. Each
// request is of a tenant drawn from all of them, so that of many tenants most are asked for the first time since the start.

import { execFileSync } from 'node:child_process';
import { median, type Row } from '../report.ts';
import { type Answering, type Contender, MODEL, startHearth, untilReady } from './contenders.ts';
import { fill } from './fill.ts';
import { chatBody, type LoadResult, load, quantile, type Target, WARMING } from './load.ts';

const FEW_TENANTS = 10;
/** Of the throughput with few tenants and an empty ledger. */
const FLAT = 0.9;
const CONCURRENCY = 32;

interface Arm {
  tenants: number;
  rows: number;
  contender: Contender;
  targets: Target[];
  /** Of a target for each request, all rounds long: another round asks for other tenants. */
  draw: Iterator<number, never>;
  results: LoadResult[];
}

/** 32-bit LCG (Numerical Recipes): the same tenants in every run. */
function* draws(most: number): Generator<number, never> {
  for (let state = 1; ; state = (Math.imul(state, 1664525) + 1013904223) >>> 0) yield state % most;
}

async function arm(answering: Answering, tenants: number, rows: number): Promise<Arm> {
  let keys: string[] = [];
  const contender = await startHearth(answering, 'NORMAL', async (dataDir) => {
    const began = performance.now();
    keys = await fill(dataDir, tenants, rows);
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    console.log(`filled a ledger with ${tenants} tenants and ${rows} settled requests by SQL in ${seconds} s`);
  });
  const targets = keys.map((key) => ({ ...contender.target, headers: { authorization: `Bearer ${key}` } }));
  return { tenants, rows, contender, targets, draw: draws(targets.length), results: [] };
}

export async function scale(
  answering: Answering,
  { rounds, requests, tenants, rows }: { rounds: number; requests: number; tenants: number; rows: number },
): Promise<Row[]> {
  const arms: Arm[] = [];
  try {
    arms.push(await arm(answering, FEW_TENANTS, 0), await arm(answering, tenants, 0));
    arms.push(await arm(answering, FEW_TENANTS, rows));
    // What filling left to be written would be written while others are measured.
    execFileSync('sync');
    for (let round = 0; round <= rounds; round++)
      for (const { contender, targets, draw, results } of round % 2 ? arms.toReversed() : arms) {
        await untilReady(contender.target.port);
        // The first round warms compilers and files.
        const count = round === 0 ? WARMING * requests : requests;
        const drawn = Array.from({ length: count }, () => targets[draw.next().value] ?? contender.target);
        const work = { body: chatBody(MODEL, false), requests: count, concurrency: CONCURRENCY };
        const result = await load(drawn, contender.pid, work);
        if (round > 0) results.push(result);
      }
    return rowsOf(arms);
  } finally {
    for (const { contender } of arms) await contender.stop();
  }
}

function rowsOf(arms: readonly Arm[]): Row[] {
  const [first] = arms;
  const throughput = ({ results }: Arm) => median(results.map((result) => result.requestsPerSecond));
  /** Round by round, since the machine's own speed changes more than the gateway's. */
  const ratio = (arm: Arm, to: Arm) =>
    median(arm.results.map(({ requestsPerSecond }, i) => requestsPerSecond / (to.results[i]?.requestsPerSecond ?? 0)));
  return arms.flatMap((one) => {
    const { tenants, rows, results } = one;
    const filled = `${tenants} tenants, ${rows} rows`;
    const row = (name: string, unit: string, value: number): Row => ({
      ...{ name: `${filled}: ${name}`, value, unit, engine: 'hearth', tenants, rows },
    });
    return [
      row('requests/s', '/s', throughput(one)),
      row('p99', 'ms', median(results.map(({ latencyMs }) => quantile(latencyMs, 0.99)))),
      row('CPU', 'ms', median(results.map(({ cpuMs }) => cpuMs))),
      ...(first && one !== first ? [{ ...row('throughput / first', '×', ratio(one, first)), aim: FLAT }] : []),
    ];
  });
}
