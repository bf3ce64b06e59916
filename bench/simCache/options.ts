// The simulator's command line: what it takes, and one line about each thing that is wrong with it.
import { parseArgs } from 'node:util';
import { createEvictionPolicy, EVICTION_POLICIES } from '../../engine/eviction/policies.ts';
import { TENANTS } from './tenants.ts';

/** Not a policy: it knows the future. */
export const OPTIMUM = 'optimum';
const CAPACITIES = '500,1000,2500,5000,10000,25000';
const TENANT_CAPACITY = '10000';
const MAX_CAPACITY_BLOCKS = 2 ** 24;

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export interface Options {
  file: string;
  capacities: number[];
  policies: string[];
  half: 'first' | 'second' | undefined;
  sample: number;
  seed: number;
  tenants: boolean;
  json: string | undefined;
}

function isHalf(half: string | undefined): half is Options['half'] {
  return half === undefined || half === 'first' || half === 'second';
}

/** Throws UsageError, UnknownPolicyError, and what parseArgs throws. */
export function readOptions(): Options {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      capacity: { type: 'string' },
      policy: { type: 'string' },
      json: { type: 'string' },
      half: { type: 'string' },
      sample: { type: 'string', default: '1' },
      seed: { type: 'string', default: '0' },
      tenants: { type: 'boolean', default: false },
    },
  });
  const [file, ...others] = positionals;
  if (!file || others.length > 0) throw new UsageError('one trace file is needed: npm run sim:cache -- TRACE');
  const { half, tenants, json } = values;
  const capacities = (values.capacity ?? (tenants ? TENANT_CAPACITY : CAPACITIES)).split(',').map(Number);
  if (!capacities.every((each) => Number.isInteger(each) && each >= 1 && each <= MAX_CAPACITY_BLOCKS))
    throw new UsageError('--capacity takes whole numbers of blocks from 1 to 2^24, with commas between');
  if (tenants && Math.min(...capacities) <= TENANTS)
    throw new UsageError(
      `--tenants takes a --capacity of at least ${TENANTS + 1} blocks: one for each tenant and the scanner`,
    );
  const all = Object.keys(EVICTION_POLICIES);
  const single = [...all.filter((name) => !name.startsWith('multi-tenant')), OPTIMUM];
  const policies = values.policy?.split(',') ?? (tenants ? all : single);
  for (const policy of policies) if (policy !== OPTIMUM) createEvictionPolicy(policy, 1);
  if (tenants && policies.includes(OPTIMUM)) throw new UsageError('--tenants has no optimum: it has no one aim');
  if (!isHalf(half)) throw new UsageError('--half takes first or second');
  const sample = Number(values.sample);
  if (!(sample > 0 && sample <= 1)) throw new UsageError('--sample takes a part of the conversations, above 0 to 1');
  const seed = Number(values.seed);
  if (!Number.isInteger(seed)) throw new UsageError('--seed takes a whole number');
  return { file, capacities, policies, half, sample, seed, tenants, json };
}
