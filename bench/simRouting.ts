// `npm run sim:routing -- TRACE`: routing policies on a trace of requests, with pools that have caches and queues: hit rate, queue, time to the first
// token. The gateway's own policies, the engine's own cache; no network, no GPU. Options:
//   --pools N (8)   --capacity BLOCKS,… (1000,2500,5000), of each pool   --policy NAME,… (all)   --json FILE
// `exact` among the policies: prefix-affine that knows at each moment what the pools' caches have.
//   --rate T (8000), tokens per second of a pool's prompts   --pace MS (25), per output token   --seed N (0)
// TRACE: lines of {"timestamp": ms, "hash_ids": […], "input_length": tokens, "output_length": tokens} (simCache/trace.ts).
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { randomOf } from '../engine/llama/seededNumbers.ts';
import { ROUTING_POLICIES, ROUTING_POLICY_NAMES, type RoutingPolicyName } from '../gateway/routing/policies.ts';
import { PrefixAffine } from '../gateway/routing/prefixAffine.ts';
import type { Row } from './report.ts';
import { readTrace, TraceError } from './simCache/trace.ts';
import { ExactMap } from './simRouting/exactMap.ts';
import { simulateRouting } from './simRouting/simulate.ts';

class UsageError extends Error {
  override readonly name = 'UsageError';
}

const EXACT = 'exact';
const NAMES = [...ROUTING_POLICY_NAMES, EXACT] as const;

interface Options {
  file: string;
  pools: number;
  capacities: number[];
  policies: (RoutingPolicyName | typeof EXACT)[];
  rate: number;
  pace: number;
  seed: number;
  json: string | undefined;
}

/** Throws UsageError, and what parseArgs throws. */
function readOptions(): Options {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      pools: { type: 'string', default: '8' },
      capacity: { type: 'string', default: '1000,2500,5000' },
      policy: { type: 'string' },
      rate: { type: 'string', default: '8000' },
      pace: { type: 'string', default: '25' },
      seed: { type: 'string', default: '0' },
      json: { type: 'string' },
    },
  });
  const [file, ...others] = positionals;
  if (!file || others.length > 0) throw new UsageError('one trace file is needed: npm run sim:routing -- TRACE');
  const whole = (name: string, text: string, least: number): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least) throw new UsageError(`--${name} takes whole numbers from ${least}`);
    return value;
  };
  const policies = (values.policy?.split(',') ?? NAMES).map((asked) => {
    const name = NAMES.find((known) => known === asked);
    if (!name) throw new UsageError(`there is no policy ${asked}; there are: ${NAMES.join(', ')}`);
    return name;
  });
  return {
    ...{ file, json: values.json, policies },
    pools: whole('pools', values.pools, 1),
    capacities: values.capacity.split(',').map((text) => whole('capacity', text, 1)),
    rate: whole('rate', values.rate, 1),
    pace: whole('pace', values.pace, 0),
    seed: whole('seed', values.seed, 0),
  };
}

const seconds = (ms: number): string => (ms / 1000).toFixed(2).padStart(9);

async function main(): Promise<void> {
  const { file, pools, capacities, policies, rate, pace, seed, json } = readOptions();
  const { requests, blockTokens } = await readTrace(file);
  if (blockTokens === null || requests.some(({ arrivalMs }) => arrivalMs === null))
    throw new UsageError('a trace with "timestamp" and "input_length" in every line is needed');
  const rows: Row[] = [];
  console.log(`${requests.length} requests, blocks of ${blockTokens} tokens, ${pools} pools of ${rate} tokens/s`);
  console.log(' capacity         policy    hit %   wait p50   p99, s   first token p50   p99, s   busiest / mean');
  for (const capacityBlocks of capacities)
    for (const policy of policies) {
      const speed = { tokensPerSecond: rate, msPerOutputToken: pace };
      const setting = { pools, capacityBlocks, blockTokens, speed };
      const exact = policy === EXACT ? new ExactMap() : undefined;
      const made = policy === EXACT ? new PrefixAffine(exact) : ROUTING_POLICIES[policy](randomOf(seed));
      const outcome = simulateRouting(requests, made, setting, exact);
      const { hitRate, waitMs, firstTokenMs, imbalance } = outcome;
      const row = (name: string, value: number, unit: string): void =>
        void rows.push({ name, value, unit, policy, capacityBlocks, pools, rate, pace });
      row('hit_rate', hitRate, '%');
      for (const [name, { p50, p99 }] of Object.entries({ wait: waitMs, first_token: firstTokenMs })) {
        row(`${name}_p50`, p50, 'ms');
        row(`${name}_p99`, p99, 'ms');
      }
      row('imbalance', imbalance, '×');
      const [wait, first] = [waitMs, firstTokenMs].map(({ p50, p99 }) => seconds(p50) + seconds(p99));
      console.log(
        `${String(capacityBlocks).padStart(9)}${policy.padStart(15)}${hitRate.toFixed(2).padStart(9)}${wait}${first!.padStart(26)}${imbalance.toFixed(2).padStart(17)}`,
      );
    }
  if (json) writeFileSync(json, `${JSON.stringify(rows, null, 2)}\n`);
}

main().catch((error: unknown) => {
  const isArgument = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  const isOurs = error instanceof UsageError || error instanceof TraceError || isArgument;
  console.error(isOurs ? `sim:routing: ${(error as Error).message}` : error);
  process.exitCode = 1;
});
