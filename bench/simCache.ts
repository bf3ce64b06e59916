// `npm run sim:cache -- TRACE`: block hit rates of eviction policies on a trace, beside the offline optimum. The engine's own index,
// block manager and eviction; no GPU. Options:
//   --capacity 500,1000,…   blocks   --policy default,lru,…,optimum   --json FILE (an array of rows)
//   default: the best for one account, without a look at tenants (pools take multi-tenant unless configured otherwise)
//   --half first|second   --sample P (part of the conversations)   --seed N
//   --tenants   eight tenants and a scanner with half of the traffic instead (docs/eviction.md); capacity 10,000 by default
// TRACE: lines of {"hash_ids": […], "input_length": tokens}, blocks of any size, lengths optional (simCache/trace.ts). It
// may also be made:NAME, traffic made up from the seed: NAME as in simCache/traffic.ts.
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { UnknownPolicyError } from '../engine/eviction/policies.ts';
import { readOptions, UsageError } from './simCache/options.ts';
import { comparePolicies, compareTenants } from './simCache/run.ts';
import { halfOf, readTrace, sampleOf, type Trace, TraceError } from './simCache/trace.ts';
import { makeTrace, TRAFFIC } from './simCache/traffic.ts';

const MADE = 'made:';

async function open(source: string, seed: number): Promise<Trace> {
  if (!source.startsWith(MADE)) {
    const trace = await readTrace(source);
    const { blockTokens, unmeasured } = trace;
    if (unmeasured > 0)
      console.error(
        `sim:cache: ${unmeasured} requests have no "input_length" that fits their "hash_ids"${blockTokens ? ` at ${blockTokens} tokens a block` : ''}; their last block counts as full`,
      );
    return trace;
  }
  const trace = makeTrace(source.slice(MADE.length), seed);
  if (!trace) throw new UsageError(`no traffic ${source}; there are: ${Object.keys(TRAFFIC).join(', ')}`);
  return trace;
}

function requireWritable(file: string): void {
  try {
    closeSync(openSync(file, 'a'));
  } catch (error) {
    throw new UsageError(`--json can't be written: ${(error as Error).message}`);
  }
}

async function main(): Promise<void> {
  const options = readOptions();
  const { file, half, sample, seed, tenants, json } = options;
  // Known before the work is done.
  if (json) requireWritable(json);
  const whole = await open(file, seed);
  const halved = half ? halfOf(whole, half) : whole;
  const trace = sample < 1 ? sampleOf(halved, sample, seed) : halved;
  if (trace.requests.length === 0) throw new UsageError(`of ${file} no request is left to play`);
  const rows = tenants ? compareTenants(trace, options) : comparePolicies(trace, options);
  if (json) writeFileSync(json, `${JSON.stringify(rows, null, 2)}\n`);
}

main().catch((error: unknown) => {
  const isOurs = error instanceof UsageError || error instanceof TraceError || error instanceof UnknownPolicyError;
  const isArgument = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  console.error(isOurs || isArgument ? `sim:cache: ${(error as Error).message}` : error);
  process.exitCode = 1;
});
