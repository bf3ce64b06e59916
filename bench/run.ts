// `npm run bench -- [SCENARIO…]`: this engine on one adapter and one model file, in one run and in turn with llama.cpp's Vulkan backend and its code for
// the processor. Options:
//   --model SOURCE (as in hearth.config.json)   --rounds N (5)   --json FILE (bench/results/…)   --activations int8|f32   --no-peers   --quick (smoke test)
//   --price-per-hour N   what an hour of this machine costs, for rows of money per million tokens   --currency USD
// Adapter and model are found as `npm start` finds them (HEARTH_ADAPTER). Beside the rows' file lies a plot of them.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DEFAULT_MODEL } from '../bin/defaultModel.ts';
import { prepareAdapter, prepareModel, tuningFile } from '../bin/prepare.ts';
import { ProgressLine } from '../bin/progressLine.ts';
import type { Bench } from './bench.ts';
import { costRows } from './cost.ts';
import { line } from './line.ts';
import { plot } from './plot.ts';
import { ContenderProcess } from './process.ts';
import { type Row, report, save } from './report.ts';
import { SCENARIOS } from './scenarios/scenarios.ts';

/** The kernels of an empty cache are all measured before anything else is. */
const TUNING_BUDGET_MS = 120_000;
/** Longest context of the scenarios, and what is generated after it. */
const PEER_CONTEXT = 4096 + 512;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string' },
    json: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    activations: { type: 'string', default: 'int8' },
    'no-peers': { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    'price-per-hour': { type: 'string' },
    currency: { type: 'string', default: 'USD' },
  },
});
const unknown = positionals.find((name) => !Object.hasOwn(SCENARIOS, name));
if (unknown !== undefined) {
  console.error(`there is no scenario ${unknown}; there are: ${Object.keys(SCENARIOS).join(', ')}`);
  process.exit(1);
}

const perHour = Number(options['price-per-hour'] ?? 0);
if (!(perHour >= 0)) {
  console.error('--price-per-hour is a number, such as 2.50');
  process.exit(1);
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const progress = new ProgressLine(process.stdout, Date.now);
const adapter = await prepareAdapter(progress, process.env.HEARTH_ADAPTER || 'auto', process.env);
const { HEARTH_MODEL_CACHE: cacheDir } = process.env;
const wanted = options.model ? { id: options.model, source: options.model } : DEFAULT_MODEL;
const { path: model } = await prepareModel(progress, wanted, { cacheDir, env: process.env });
progress.end();

function installPeers(): void {
  const folder = here('./peers');
  if (existsSync(`${folder}/node_modules/node-llama-cpp`)) return;
  console.log('installing llama.cpp (node-llama-cpp, 155 MB, for this bench alone) …');
  // Not npm ci: it wants every platform's optional package in the lockfile, and some are in no registry.
  const npm = spawnSync('npm', ['install', '--no-save', '--ignore-scripts', '--omit=optional'], {
    cwd: folder,
    stdio: 'inherit',
  });
  if (npm.status !== 0) throw new Error('npm install failed in bench/peers; --no-peers measures Hearth alone');
}

/** llama.cpp keeps the threads that the software adapter gives it by default: it is faster with them. */
function peer(name: string, gpu: 'vulkan' | false): Promise<ContenderProcess> {
  const { LP_NUM_THREADS: _, ...env } = { ...process.env, ...adapter.env };
  const setup = { model, gpu, contextSize: PEER_CONTEXT };
  return ContenderProcess.start(name, here('./peers/llamaCpp.mjs'), setup, { ...env, GGML_VK_VISIBLE_DEVICES: '0' });
}

const env = { ...process.env, ...adapter.env };
const { dawnFlags } = adapter;
const tuning = { file: tuningFile(process.env), budgetMs: options.quick ? 0 : TUNING_BUDGET_MS };
const setup = { model, dawnFlags, activations: options.activations, tuning };
if (!options['no-peers']) installPeers();
// One after the other: what the first measures of its kernels is not to be disturbed.
const hearth = await ContenderProcess.start('hearth', here('./hearthEngine.ts'), setup, env);
const vulkan = options['no-peers'] ? null : await peer('llama.cpp vulkan', 'vulkan');
const cpu = options['no-peers'] ? null : await peer('llama.cpp cpu', false);
const contenders = [hearth, vulkan, cpu].filter((each) => each !== null);
const bench: Bench = {
  ...{ hearth, vulkan, cpu, adapter: { env, dawnFlags, hardware: adapter.kind === 'hardware' } },
  ...{ rounds: Number(options.rounds), quick: options.quick, say: (line) => console.log(line) },
};

const rows: Row[] = [];
try {
  for (const name of positionals.length > 0 ? positionals : Object.keys(SCENARIOS)) {
    console.log(`${name} …`);
    rows.push(...(await SCENARIOS[name]!(bench)).map((row) => ({ ...row, scenario: name, rounds: bench.rounds })));
  }
  if (perHour > 0) rows.push(...costRows(rows, { perHour, currency: options.currency }));
  const result = report(hearth.about.adapter ?? 'unknown', rows);
  console.log(`\n${result.adapter}; ${result.machine}; commit ${result.commit}; medians of ${bench.rounds} rounds`);
  if (vulkan) console.log(`llama.cpp ${vulkan.about.version} on ${vulkan.about.devices}`);
  for (const row of rows) console.log(line(row));
  const file = options.json ?? here(`./results/${new Date().toISOString().replaceAll(/[:.]/g, '-')}.json`);
  mkdirSync(dirname(file), { recursive: true });
  save(file, result);
  const picture = file.replace(/(\.json)?$/, '.svg');
  writeFileSync(picture, plot(result));
  console.log(`\n${file}\n${picture}`);
} finally {
  for (const each of contenders) each.end();
}
