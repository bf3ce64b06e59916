// `npm run sim:cache -- TRACE`: block hit rates of eviction policies on a trace, beside the offline optimum. The engine's own index,
// block manager and eviction; no GPU. Options:
//   --capacity 500,1000,…   blocks   --policy default,lru,…,optimum   --json FILE (an array of rows)
//   --half first|second   --sample P (part of the conversations)   --seed N   --tenants (noisy neighbour, see docs/eviction.md)
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createEvictionPolicy, EVICTION_POLICIES, UnknownPolicyError } from '../engine/eviction/policies.ts';
import { playOptimum } from './simCache/optimum.ts';
import { hitRate, type Outcome, replay } from './simCache/replay.ts';
import { halfOf, readTrace, sampleOf, type Trace, TraceError } from './simCache/trace.ts';

const OPTIMUM = 'optimum';
const CAPACITIES = '500,1000,2500,5000,10000,25000';

class UsageError extends Error {}

interface Row {
  name: string;
  value: number;
  unit: string;
  policy: string;
  capacityBlocks: number;
}

function play(policy: string, trace: Trace, capacityBlocks: number): Outcome {
  if (policy === OPTIMUM) return playOptimum(trace, capacityBlocks);
  return replay(trace, capacityBlocks, createEvictionPolicy(policy, capacityBlocks));
}

function isHalf(half: string | undefined): half is 'first' | 'second' | undefined {
  return half === undefined || half === 'first' || half === 'second';
}

function readOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      capacity: { type: 'string', default: CAPACITIES },
      policy: { type: 'string', default: [...Object.keys(EVICTION_POLICIES), OPTIMUM].join(',') },
      json: { type: 'string' },
      half: { type: 'string' },
      sample: { type: 'string', default: '1' },
      seed: { type: 'string', default: '0' },
    },
  });
  const [file, ...others] = positionals;
  if (!file || others.length > 0) throw new UsageError('one trace file is needed: npm run sim:cache -- TRACE');
  const capacities = values.capacity.split(',').map(Number);
  if (!capacities.every((capacity) => Number.isInteger(capacity) && capacity >= 1 && capacity <= 2 ** 24))
    throw new UsageError('--capacity takes whole numbers of blocks from 1 to 2^24, with commas between');
  const policies = values.policy.split(',');
  for (const policy of policies) if (policy !== OPTIMUM) createEvictionPolicy(policy, 1);
  const { half } = values;
  if (!isHalf(half)) throw new UsageError('--half takes first or second');
  const sample = Number(values.sample);
  if (!(sample > 0 && sample <= 1)) throw new UsageError('--sample takes a part of the conversations, above 0 to 1');
  const seed = Number(values.seed);
  if (!Number.isInteger(seed)) throw new UsageError('--seed takes a whole number');
  return { file, capacities, policies, half, sample, seed, json: values.json };
}

async function main(): Promise<void> {
  const { file, capacities, policies, half, sample, seed, json } = readOptions();
  const whole = await readTrace(file);
  const halved = half ? halfOf(whole, half) : whole;
  const trace = sample < 1 ? sampleOf(halved, sample, seed) : halved;
  const rows: Row[] = [];
  const served = trace.requests.reduce((sum, { blocks }) => sum + blocks.length, 0);
  console.log(`${trace.requests.length} requests, ${served} blocks; hit rate in %, share of the optimum in brackets`);
  console.log(['capacity'.padStart(9), ...policies.map((policy) => policy.padStart(14))].join(''));
  for (const capacityBlocks of capacities) {
    const best = hitRate(playOptimum(trace, capacityBlocks));
    const cells: string[] = [];
    for (const policy of policies) {
      const outcome = play(policy, trace, capacityBlocks);
      const value = hitRate(outcome);
      const share = best === 0 ? 100 : (100 * value) / best;
      rows.push(
        { name: 'hit_rate', value, unit: '%', policy, capacityBlocks },
        { name: 'share_of_optimum', value: share, unit: '%', policy, capacityBlocks },
        {
          name: 'us_per_block',
          value: (1e6 * outcome.seconds) / outcome.servedBlocks,
          unit: 'µs',
          policy,
          capacityBlocks,
        },
      );
      cells.push(`${value.toFixed(2)} (${share.toFixed(0)})`.padStart(14));
    }
    console.log(String(capacityBlocks).padStart(9) + cells.join(''));
  }
  if (json) writeFileSync(json, `${JSON.stringify(rows, null, 2)}\n`);
}

main().catch((error: unknown) => {
  const isUsage = error instanceof UsageError || error instanceof TraceError || error instanceof UnknownPolicyError;
  const isArgument = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  console.error(isUsage || isArgument ? `sim:cache: ${(error as Error).message}` : error);
  process.exitCode = 1;
});
