// `npm run bench:cache`: what the prefix cache costs and saves on this machine. Options:
//   --policy NAME (lru)   --rounds N (100)   --json FILE
//   --first-token N (0: not)   time to the first token of N tokens, cold and from each tier, on the GPU with the default model
import { parseArgs } from 'node:util';
import { createEvictionPolicy } from '../engine/eviction/policies.ts';
import { measureBlocks } from './cache/blocks.ts';
import { measureFirstToken } from './cache/firstTokenRun.ts';
import { ISSUE_LOAD, schedulerRows } from './cache/scheduler.ts';
import { measureTiers } from './cache/tiers.ts';
import { type Row, report, save } from './report.ts';

const { values: options } = parseArgs({
  options: {
    policy: { type: 'string', default: 'lru' },
    rounds: { type: 'string', default: '100' },
    'first-token': { type: 'string', default: '0' },
    json: { type: 'string' },
  },
});
createEvictionPolicy(options.policy, 1);
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number from 1');
const firstToken = Number(options['first-token']);
if (!Number.isInteger(firstToken) || firstToken < 0) throw new Error('--first-token takes a number of tokens');

/** SmolLM2-135M: 30 layers, 3 KV heads of 64, keys and values in f16. */
const BLOCK_BYTES = 368_640;
const gpu = firstToken > 0 ? await measureFirstToken(firstToken, Math.min(rounds, 5)) : null;
const rows: Row[] = [
  ...measureBlocks({ promptTokens: [4_000, 200_000], memoryBlocks: 50_000, rounds, policy: options.policy }),
  ...schedulerRows(ISSUE_LOAD, 10 * rounds),
  ...(await measureTiers({ promptTokens: 2_000, blockBytes: BLOCK_BYTES, rounds: Math.min(rounds, 20) })),
  ...(gpu?.rows ?? []),
];
const result = report(gpu?.adapter ?? 'none', rows);
console.log(`${result.machine}, commit ${result.commit}, policy ${options.policy}, medians of ${rounds} rounds\n`);
for (const { name, value, unit, ...of } of rows) {
  const parameters = Object.entries(of).map(([key, parameter]) => `${key} ${parameter.toLocaleString('en')}`);
  console.log(`${name.padEnd(22)}${value.toPrecision(3).padStart(9)} ${unit.padEnd(12)} ${parameters.join(', ')}`);
}
save(options.json, result);
