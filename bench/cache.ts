// `npm run bench:cache`: what the prefix cache costs and saves on this machine. Options:
//   --policy NAME (lru)   --rounds N (100)   --json FILE
import { parseArgs } from 'node:util';
import { createEvictionPolicy } from '../engine/eviction/policies.ts';
import { measureBlocks } from './cache/blocks.ts';
import { ISSUE_LOAD, schedulerRows } from './cache/scheduler.ts';
import { type Row, report, save } from './report.ts';

const { values: options } = parseArgs({
  options: {
    policy: { type: 'string', default: 'lru' },
    rounds: { type: 'string', default: '100' },
    json: { type: 'string' },
  },
});
createEvictionPolicy(options.policy, 1);
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number from 1');

const rows: Row[] = [
  ...measureBlocks({ promptTokens: [4_000, 200_000], memoryBlocks: 50_000, rounds, policy: options.policy }),
  ...schedulerRows(ISSUE_LOAD, 10 * rounds),
];
const result = report('none', rows);
console.log(`${result.machine}, commit ${result.commit}, policy ${options.policy}, medians of ${rounds} rounds\n`);
for (const { name, value, unit, ...of } of rows) {
  const parameters = Object.entries(of).map(([key, parameter]) => `${key} ${parameter.toLocaleString('en')}`);
  console.log(`${name.padEnd(22)}${value.toPrecision(3).padStart(9)} ${unit.padEnd(12)} ${parameters.join(', ')}`);
}
save(options.json, result);
