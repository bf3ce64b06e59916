// `npm run bench:step`: what each kernel takes of whole steps, by the GPU's own timestamps. Options:
//   --model SOURCE (as in hearth.config.json)   --rounds N (10)   --activations int8|f32   --json FILE   --quick
// The adapter is found as `npm start` finds it (HEARTH_ADAPTER). Beside the kernels' sum stands what a step takes as the engine runs it, all
// dispatches in one pass.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DEFAULT_MODEL } from '../../bin/defaultModel.ts';
import { prepareAdapter, prepareModel, tuningFile } from '../../bin/prepare.ts';
import { ProgressLine } from '../../bin/progressLine.ts';
import { type Row, report, save } from '../report.ts';
import type { MeasuredStep } from './measure.ts';

const TUNING_BUDGET_MS = 120_000;

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    rounds: { type: 'string', default: '10' },
    activations: { type: 'string', default: 'int8' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const progress = new ProgressLine(process.stdout, Date.now);
const adapter = await prepareAdapter(progress, process.env.HEARTH_ADAPTER || 'auto', process.env);
const wanted = options.model ? { id: options.model, source: options.model } : DEFAULT_MODEL;
const { path: model } = await prepareModel(progress, wanted, {
  ...{ cacheDir: process.env.HEARTH_MODEL_CACHE, env: process.env },
});
progress.end();
const { activations, quick } = options;
const task = {
  ...{ model, dawnFlags: adapter.dawnFlags, activations, rounds: Number(options.rounds), quick },
  tuning: { file: tuningFile(process.env), budgetMs: quick ? 0 : TUNING_BUDGET_MS },
};
const script = fileURLToPath(new URL('./measure.ts', import.meta.url));
const child = spawnSync(process.execPath, [script, JSON.stringify(task)], {
  ...{ encoding: 'utf8', env: { ...process.env, ...adapter.env }, stdio: ['ignore', 'pipe', 'inherit'] },
  maxBuffer: 2 ** 24,
});
const line = child.stdout.trim().split('\n').at(-1);
if (child.status !== 0 || !line) throw new Error(`measuring ended with ${child.status ?? child.signal}`);
const { adapter: name, steps }: { adapter: string; steps: MeasuredStep[] } = JSON.parse(line);

const rows: Row[] = [];
for (const { name: step, wallSeconds, kernels } of steps) {
  const sum = kernels.reduce((all, { seconds }) => all + seconds, 0);
  const dispatches = kernels.reduce((all, each) => all + each.dispatches, 0);
  console.log(
    `\n${step}: ${(wallSeconds * 1e3).toFixed(2)} ms; ${dispatches} dispatches, ${(sum * 1e3).toFixed(2)} ms`,
  );
  rows.push({ name: 'step', step, value: wallSeconds * 1e3, unit: 'ms', dispatches });
  for (const { label, dispatches: count, seconds } of kernels.toSorted((a, b) => b.seconds - a.seconds)) {
    const each = ((seconds * 1e6) / count).toFixed(1);
    console.log(
      `  ${label.padEnd(84)}${String(count).padStart(4)} × ${each.padStart(8)} µs${((100 * seconds) / sum).toFixed(1).padStart(7)} %`,
    );
    rows.push({ name: label, step, value: seconds * 1e3, unit: 'ms', dispatches: count });
  }
}
const result = report(name, rows);
console.log(`\n${result.adapter}; ${result.machine}; commit ${result.commit}; medians of ${options.rounds} rounds`);
save(options.json, result);
