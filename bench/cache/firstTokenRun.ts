// Finds adapter and model as `npm start` does and measures the time to the first token in a process of its own (firstToken.ts), which
// needs the adapter's environment from its beginning.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { DEFAULT_MODEL } from '../../bin/defaultModel.ts';
import { prepareAdapter, prepareModel } from '../../bin/prepare.ts';
import { ProgressLine } from '../../bin/progressLine.ts';
import { median, type Row } from '../report.ts';
import type { FirstTokenAnswer, FirstTokenTask } from './firstToken.ts';

export async function measureFirstToken(tokens: number, rounds: number): Promise<{ adapter: string; rows: Row[] }> {
  const progress = new ProgressLine(process.stdout, Date.now);
  const adapter = await prepareAdapter(progress, process.env.HEARTH_ADAPTER || 'auto', process.env);
  const { HEARTH_MODEL_CACHE: cacheDir } = process.env;
  const { path: model } = await prepareModel(progress, DEFAULT_MODEL, { cacheDir, env: process.env });
  progress.end();
  const task: FirstTokenTask = { model, dawnFlags: [...adapter.dawnFlags], tokens, rounds };
  const script = fileURLToPath(new URL('./firstToken.ts', import.meta.url));
  const child = spawnSync(process.execPath, [script, JSON.stringify(task)], {
    encoding: 'utf8',
    env: { ...process.env, ...adapter.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const line = child.stdout.trim().split('\n').at(-1);
  if (child.status !== 0 || !line) throw new Error(`${script} ended with ${child.status ?? child.signal}`);
  const answer: FirstTokenAnswer = JSON.parse(line);
  const cold = median(answer.ms.cold);
  const rows = Object.entries(answer.ms).flatMap(([from, ms]): Row[] => [
    { name: 'first_token', value: median(ms), unit: 'ms', from, tokens },
    ...(from === 'cold' ? [] : [{ name: 'first_token_gain', value: cold / median(ms), unit: '×', from, tokens }]),
  ]);
  return { adapter: answer.adapter, rows };
}
