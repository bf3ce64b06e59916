// What measured speeds cost: rows of tokens per second as rows of money per million tokens, of a machine that an hour is paid for and that never
// idles. A pool in service says what its tokens really cost (docs/quotas-and-billing.md); this is their lower bound on this machine.
import type { Row } from './report.ts';

const MILLION = 1_000_000;
const SECONDS_PER_HOUR = 3600;

export interface HourPrice {
  perHour: number;
  currency: string;
}

/** One row for each that is a speed, with what it depends on. */
export function costRows(rows: readonly Row[], { perHour, currency }: HourPrice): Row[] {
  return rows
    .filter(({ unit, value }) => unit === 'tok/s' && value > 0)
    .map(({ name, value, aim: _aim, most: _most, ...row }) => ({
      ...row,
      name: `${name}: cost per million tokens`,
      value: (perHour / SECONDS_PER_HOUR / value) * MILLION,
      unit: currency,
    }));
}
