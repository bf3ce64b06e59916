// `npm run bench`: this engine beside llama.cpp's Vulkan backend, one run, one adapter, one model file, in turn. Options:
//   --json FILE   --prompt N (128)   --generate N (16)   --rounds N (2)   --activations int8|f32   --no-peers
// Adapter and model are found as `npm start` finds them (HEARTH_ADAPTER; the default model).
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DEFAULT_MODEL } from '../bin/defaultModel.ts';
import { prepareAdapter, prepareModel } from '../bin/prepare.ts';
import { ProgressLine } from '../bin/progressLine.ts';
import { median, type Row, report, save } from './report.ts';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    prompt: { type: 'string', default: '128' },
    generate: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '2' },
    activations: { type: 'string', default: 'int8' },
    'no-peers': { type: 'boolean', default: false },
  },
});

interface Result {
  prefillTokensPerSecond: number;
  timeToFirstTokenMs: number;
  decodeTokensPerSecond: number;
}

interface Answer {
  results: Result[];
  adapter?: string;
  version?: string;
  devices?: string[];
  loadMs?: number;
}

const METRICS = [
  { key: 'prefillTokensPerSecond', name: 'prefill', unit: 'tok/s' },
  { key: 'decodeTokensPerSecond', name: 'decode', unit: 'tok/s' },
  { key: 'timeToFirstTokenMs', name: 'time to first token', unit: 'ms' },
] as const;

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const progress = new ProgressLine(process.stdout, Date.now);
const adapter = await prepareAdapter(progress, process.env.HEARTH_ADAPTER || 'auto', process.env);
const { HEARTH_MODEL_CACHE: cacheDir } = process.env;
const { path: model } = await prepareModel(progress, DEFAULT_MODEL, { cacheDir, env: process.env });
progress.end();
const adapterEnv = { ...process.env, ...adapter.env };
// Ids spread over the vocabulary's common part: what they say does not matter for speed.
const prompt = Array.from({ length: Number(options.prompt) }, (_, i) => 300 + ((i * 7919) % 20_000));
const task = { model, prompt, generate: Number(options.generate), rounds: 1 };

function runProcess(file: string, argument: object, env: NodeJS.ProcessEnv): Answer {
  const child = spawnSync(process.execPath, [file, JSON.stringify(argument)], {
    encoding: 'utf8',
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 20,
  });
  const line = child.stdout.trim().split('\n').at(-1);
  if (child.status !== 0 || !line) throw new Error(`${file} ended with ${child.status ?? child.signal}`);
  return JSON.parse(line);
}

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

const contenders: { name: string; run: () => Answer }[] = [
  {
    name: 'hearth',
    run: () =>
      runProcess(
        here('./hearthEngine.ts'),
        { ...task, dawnFlags: adapter.dawnFlags, activations: options.activations },
        adapterEnv,
      ),
  },
];
if (!options['no-peers']) {
  installPeers();
  // llama.cpp keeps the threads that the software adapter gives it by default: it is faster with them.
  const { LP_NUM_THREADS: _, ...env } = adapterEnv;
  contenders.push({
    name: 'llama.cpp vulkan',
    run: () =>
      runProcess(here('./peers/llamaCpp.mjs'), { ...task, gpu: 'vulkan' }, { ...env, GGML_VK_VISIBLE_DEVICES: '0' }),
  });
}

const answers = new Map<string, Answer[]>(contenders.map(({ name }) => [name, []]));
for (let round = 0; round < Number(options.rounds); round++) {
  for (const { name, run } of round % 2 ? contenders.toReversed() : contenders) {
    console.log(`round ${round + 1}: ${name} …`);
    answers.get(name)?.push(run());
  }
}

const rows: Row[] = [];
for (const [engine, given] of answers)
  for (const { key, name, unit } of METRICS)
    rows.push({
      name,
      value: median(given.flatMap(({ results }) => results.map((result) => result[key]))),
      unit,
      engine,
      prompt: prompt.length,
      generate: task.generate,
      rounds: given.length,
      ...(engine === 'hearth' ? { activations: options.activations } : { version: given[0]?.version ?? 'unknown' }),
    });
const adapterName = answers.get('hearth')?.[0]?.adapter ?? 'unknown';
const result = report(adapterName, rows);
console.log(`\n${result.adapter}; ${result.machine}; commit ${result.commit}; medians of ${options.rounds} rounds`);
for (const { name, value, unit, engine } of rows)
  console.log(`${String(engine).padEnd(18)}${name.padEnd(22)}${value.toFixed(1).padStart(10)} ${unit}`);
for (const { key, name } of METRICS.slice(0, 2)) {
  const of = (engine: string): number =>
    median((answers.get(engine) ?? []).flatMap(({ results }) => results.map((one) => one[key])));
  if (!options['no-peers'])
    console.log(
      `ratio              ${name.padEnd(22)}${(of('hearth') / of('llama.cpp vulkan')).toFixed(1).padStart(10)} ×`,
    );
}
save(options.json, result);
