// A figure as a line to read, with what is aimed for beside it.
import { ofAim } from './plot.ts';
import type { Row } from './report.ts';

export function line(row: Row): string {
  const { name, value, unit, engine = '', aim, most } = row;
  const share = ofAim(row);
  const goal = aim !== undefined ? `aim ≥ ${aim}` : `aim ≤ ${most}`;
  const verdict = share === null ? '' : `   ${goal} ${share >= 1 ? '' : 'MISSED'}`;
  const digits = value < 1 ? value.toFixed(3) : value.toFixed(1);
  return `${name.padEnd(46)}${String(engine).padEnd(18)}${digits.padStart(9)} ${unit.padEnd(8)}${verdict}`.trimEnd();
}
