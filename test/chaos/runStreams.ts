// `npm run chaos:streams -- [--seed N] [--streams N] [--tokens N] [--kills N] [--losses N] [--default-model]`: streams of the real engine whose pools
// are killed and lose their devices. Ends with 1 where a client was told something else than in the run without a fault, or the books are wrong.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DEFAULT_MODEL } from '../../bin/defaultModel.ts';
import { prepareAdapter, prepareModel } from '../../bin/prepare.ts';
import { ProgressLine } from '../../bin/progressLine.ts';
import { openTinyModel } from '../support/tinyModelFile.ts';
import { streams } from './streams.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    streams: { type: 'string', default: '50' },
    tokens: { type: 'string' },
    kills: { type: 'string', default: '8' },
    losses: { type: 'string', default: '4' },
    'default-model': { type: 'boolean', default: false },
  },
});
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
console.log(`seed ${seed}`);
const progress = new ProgressLine(process.stdout, Date.now);
const { env, dawnFlags } = await prepareAdapter(progress, process.env.HEARTH_ADAPTER || 'auto', process.env);
const tiny = values['default-model'] ? null : await openTinyModel();
const { HEARTH_MODEL_CACHE: cacheDir } = process.env;
const path = tiny
  ? join(tiny.folder, 'tiny.gguf')
  : (await prepareModel(progress, DEFAULT_MODEL, { cacheDir, env: process.env })).path;
progress.end();
const report = await streams({
  ...{ seed, path, env, dawnFlags, say: (line: string) => console.log(line) },
  streams: Number(values.streams),
  tokens: Number(values.tokens ?? (tiny ? 120 : 48)),
  kills: Number(values.kills),
  losses: Number(values.losses),
  model: { kvBlocks: 2048, ...(tiny && { kvBlocks: 512 }) },
});
await tiny?.close();
const { different, faults, moved, reroutes, devicesLost, seconds } = report;
console.log(
  `${seconds.calm.toFixed(1)} s without a fault, ${seconds.stormy.toFixed(1)} s with; gone on elsewhere ${reroutes} times, ${moved} requests at both pools, ${devicesLost} devices lost`,
);
console.log(
  different.length === 0 ? 'Every client was told the same.' : `${different.length} were told something else:`,
);
for (const one of different.slice(0, 10)) console.log(one);
console.log(faults.length === 0 ? 'The books agree.' : `${faults.length} faults in the books:`);
for (const fault of faults.slice(0, 20)) console.log(`  ${fault}`);
process.exit(different.length + faults.length === 0 ? 0 : 1);
