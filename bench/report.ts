// The one form in which every bench and simulation leaves its figures: a file that plots and comparisons are drawn from.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

export { median } from '../engine/tuning/fastest.ts';

export interface Row {
  name: string;
  value: number;
  unit: string;
  /** Whatever the figure depends on: prompt length, variant, round. */
  [parameter: string]: string | number;
}

export interface Report {
  commit: string;
  machine: string;
  adapter: string;
  rows: Row[];
}

/** The commit that is measured; `+` where the tree has changes, `unknown` outside a checkout. */
function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return git('rev-parse', '--short=12', 'HEAD').trim() + (git('status', '--porcelain', '-uno').trim() ? '+' : '');
  } catch {
    return 'unknown';
  }
}

export function report(adapter: string, rows: Row[]): Report {
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`;
  return { commit: commit(), machine, adapter, rows };
}

/** Writes the report to `file` when one was asked for. */
export function save(file: string | undefined, result: Report): void {
  if (file) writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
}
