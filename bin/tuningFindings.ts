// What earlier starts measured on an adapter, for `npm run doctor`: each operation, what it takes, and why.
import { rm } from 'node:fs/promises';
import type { AdapterChoice } from '../engine/gpu/adapterSearch.ts';
import { readVerdicts, type StoredVerdict } from '../engine/tuning/verdictFile.ts';
import type { Finding } from './doctorChecks.ts';

/** Of `adapter` alone: a file holds what was measured on all. */
export async function checkTuning(file: string, { info }: Pick<AdapterChoice, 'info'>): Promise<Finding> {
  const own = [info.vendor, info.architecture, info.device, info.description].join('/');
  const verdicts = (await readVerdicts(file)).filter(({ adapter }) => adapter.startsWith(`${own}/`));
  const text = verdicts.map(verdictText).join('\n');
  return { name: 'kernels', state: 'ok', text: text || 'by rule; the next npm start measures them' };
}

/** Throws away what was measured on any adapter. */
export async function forgetTuning(file: string): Promise<Finding> {
  await rm(file, { force: true });
  return {
    name: 'kernels',
    state: 'note',
    text: 'what was measured is thrown away; the next npm start measures again',
  };
}

/** The first time of a verdict is the rule's. */
function verdictText({ name, chosen, seconds, dropped }: StoredVerdict): string {
  const [rule = '', ruleSeconds = 0] = Object.entries(seconds)[0] ?? [];
  const gain = Math.round((1 - (seconds[chosen] ?? 0) / ruleSeconds) * 100);
  const why = chosen === rule ? 'the default, measured' : `measured, ${gain} % less time than the default ${rule}`;
  const lost = dropped.length > 0 ? `; dropped by the self-test: ${dropped.join(', ')}` : '';
  return name.startsWith('columns ')
    ? `${name}: ${Object.entries(seconds)
        .map(([each, time]) => `${each} ${(time * 1e6).toFixed(0)}`)
        .join(', ')} µs${lost}`
    : `${name}: ${chosen} (${why})${lost}`;
}
