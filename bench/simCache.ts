// `npm run sim:cache -- TRACE`: block hit rates of eviction policies on a trace, beside the offline optimum. The engine's own index,
// block manager and eviction; no GPU. Options:
//   --capacity 500,1000,…   blocks   --policy default,lru,…,optimum   --json FILE (an array of rows)
//   default: the best for one account, without a look at tenants (pools take multi-tenant unless configured otherwise)
//   --half first|second   --sample P (part of the conversations)   --seed N
//   --tenants   eight tenants and a scanner with half of the traffic instead (docs/eviction.md); capacity 10,000 by default
// TRACE may also be made:NAME, traffic made up from the seed: NAME as in simCache/traffic.ts.
import { writeFileSync } from 'node:fs';
import { UnknownPolicyError } from '../engine/eviction/policies.ts';
import { readOptions, UsageError } from './simCache/options.ts';
import { comparePolicies, compareTenants } from './simCache/run.ts';
import { halfOf, readTrace, sampleOf, type Trace, TraceError } from './simCache/trace.ts';
import { makeTrace, TRAFFIC } from './simCache/traffic.ts';

const MADE = 'made:';

async function open(source: string, seed: number): Promise<Trace> {
  if (!source.startsWith(MADE)) return readTrace(source);
  const trace = makeTrace(source.slice(MADE.length), seed);
  if (!trace) throw new UsageError(`no traffic ${source}; there are: ${Object.keys(TRAFFIC).join(', ')}`);
  return trace;
}

async function main(): Promise<void> {
  const options = readOptions();
  const { file, half, sample, seed, tenants, json } = options;
  const whole = await open(file, seed);
  const halved = half ? halfOf(whole, half) : whole;
  const trace = sample < 1 ? sampleOf(halved, sample, seed) : halved;
  const rows = tenants ? compareTenants(trace, options) : comparePolicies(trace, options);
  if (json) writeFileSync(json, `${JSON.stringify(rows, null, 2)}\n`);
}

main().catch((error: unknown) => {
  const isOurs = error instanceof UsageError || error instanceof TraceError || error instanceof UnknownPolicyError;
  const isArgument = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  console.error(isOurs || isArgument ? `sim:cache: ${(error as Error).message}` : error);
  process.exitCode = 1;
});
