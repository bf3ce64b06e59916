// `npm run bench:speculation`: decoding with drafts beside decoding without, one engine, one run, in turn, the same tokens. Options:
//   --generate N (128)   --rounds N (3)   --draft N (8), most drafts per step   --prompt NAME (all)   --text, what was answered   --json FILE
// Adapter and model are found as `npm start` finds them (HEARTH_ADAPTER; the default model).
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DEFAULT_MODEL } from '../bin/defaultModel.ts';
import { prepareAdapter, prepareModel } from '../bin/prepare.ts';
import { ProgressLine } from '../bin/progressLine.ts';
import { median, type Row, report, save } from './report.ts';
import type { DecodeAnswer, DecodeResult, DecodeTask, Pace } from './speculation/decode.ts';
import { PROMPTS } from './speculation/prompts.ts';

export interface SpeculationBench {
  generate: number;
  rounds: number;
  maxDraftTokens: number;
  /** By name; absent: all. */
  prompt?: string | undefined;
}

/** Measures each prompt; the ratio is the median over rounds of both taken in turn. */
export async function measureSpeculation(options: SpeculationBench): Promise<DecodeAnswer & { rows: Row[] }> {
  const { prompt, ...others } = options;
  const prompts = PROMPTS.filter(({ name }) => prompt === undefined || name === prompt);
  if (prompts.length === 0) throw new Error(`--prompt takes one of: ${PROMPTS.map(({ name }) => name).join(', ')}`);
  const progress = new ProgressLine(process.stdout, Date.now);
  const adapter = await prepareAdapter(progress, process.env.HEARTH_ADAPTER || 'auto', process.env);
  const { HEARTH_MODEL_CACHE: cacheDir } = process.env;
  const { path: model } = await prepareModel(progress, DEFAULT_MODEL, { cacheDir, env: process.env });
  progress.end();
  const task: DecodeTask = { ...others, model, dawnFlags: adapter.dawnFlags, prompts };
  const script = fileURLToPath(new URL('./speculation/decode.ts', import.meta.url));
  const child = spawnSync(process.execPath, [script, JSON.stringify(task)], {
    encoding: 'utf8',
    env: { ...process.env, ...adapter.env },
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 20,
  });
  const line = child.stdout.trim().split('\n').at(-1);
  if (child.status !== 0 || !line) throw new Error(`${script} ended with ${child.status ?? child.signal}`);
  const answer: DecodeAnswer = JSON.parse(line);
  return { ...answer, rows: answer.results.flatMap((result) => rowsOf(result, answer.clock, options)) };
}

function rowsOf(result: DecodeResult, clock: string, { rounds, maxDraftTokens }: SpeculationBench): Row[] {
  const { prompt, promptTokens, tokens, plain, ngram, drafted, accepted, steps } = result;
  const of = { prompt, promptTokens, tokens, rounds };
  const draft = { ...of, maxDraftTokens };
  const rate = (paces: readonly Pace[]): number => median(paces.map(({ tokensPerSecond }) => tokensPerSecond));
  const gain = (by: keyof Pace): number => median(ngram.map((pace, i) => pace[by] / plain[i]![by]));
  return [
    { name: 'decode', value: rate(plain), unit: 'tok/s', ...of, speculation: 'off' },
    { name: 'decode', value: rate(ngram), unit: 'tok/s', ...draft, speculation: 'ngram' },
    { name: 'decode_gain', value: gain('tokensPerSecond'), unit: '×', ...draft, clock: 'wall clock' },
    { name: 'decode_gain', value: gain('tokensPerWorkSecond'), unit: '×', ...draft, clock },
    { name: 'steps', value: median(steps), unit: 'steps', ...draft },
    { name: 'drafted', value: median(drafted), unit: 'tokens', ...draft },
    { name: 'accepted', value: median(accepted), unit: 'tokens', ...draft },
  ];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      generate: { type: 'string', default: '128' },
      rounds: { type: 'string', default: '3' },
      draft: { type: 'string', default: '8' },
      prompt: { type: 'string' },
      text: { type: 'boolean', default: false },
      json: { type: 'string' },
    },
  });
  const number = (name: 'generate' | 'rounds' | 'draft'): number => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number from 1`);
    return value;
  };
  const { adapter, results, rows } = await measureSpeculation({
    ...{ generate: number('generate'), rounds: number('rounds'), maxDraftTokens: number('draft') },
    prompt: values.prompt,
  });
  const result = report(adapter, rows);
  console.log(`\n${result.adapter}; ${result.machine}; commit ${result.commit}; medians of ${values.rounds} rounds`);
  for (const { name, value, unit, prompt, speculation, clock } of rows) {
    const what = [name, speculation ?? clock ?? ''].join(' ');
    console.log(`${String(prompt).padEnd(18)}${what.padEnd(46)}${value.toFixed(2).padStart(9)} ${unit}`);
  }
  if (values.text) for (const { prompt, text } of results) console.log(`\n${prompt}:\n${text}`);
  save(values.json, result);
}

if (import.meta.main) await main();
