// What the gateway is to reach, each figure of one run beside its aim: against Portkey's gateway where that was measured, else by itself.
import type { Row } from '../report.ts';

/** Added to the time without a gateway, at the median, one request at a time. */
const MOST_ADDED_MS = 0.5;
const LEAST_THROUGHPUT_RATIO = 2;
const MOST_CPU_RATIO = 0.5;
const MOST_IDLE_MB = 150;

/** `rows`: of the cells of concurrency and mode, and of idle streams. */
export function aims(rows: readonly Row[]): Row[] {
  const of = (name: string, gateway: string, mode: string, concurrency: number): number | undefined =>
    rows.find(
      (row) => row.name === name && row.gateway === gateway && row.mode === mode && row.concurrency === concurrency,
    )?.value;
  const found: Row[] = [];
  for (const mode of ['plain', 'streamed']) {
    const [own, direct, other] = ['hearth', 'no gateway', 'portkey'].map((gateway) => of('p50', gateway, mode, 1));
    if (own !== undefined && direct !== undefined) {
      found.push({
        name: `added p50, ${mode}`,
        value: own - direct,
        unit: 'ms',
        engine: 'hearth',
        most: MOST_ADDED_MS,
      });
      if (other !== undefined)
        found.push({
          name: `added p50, ${mode} / portkey`,
          value: (own - direct) / (other - direct),
          unit: '×',
          most: 1,
        });
    }
    for (const [name, bound] of [
      ['throughput', { aim: LEAST_THROUGHPUT_RATIO }],
      ['cpu', { most: MOST_CPU_RATIO }],
    ] as const) {
      const [mine, theirs] = ['hearth', 'portkey'].map((gateway) => of(name, gateway, mode, 32));
      if (mine !== undefined && theirs !== undefined)
        found.push({ name: `${name} at 32, ${mode} / portkey`, value: mine / theirs, unit: '×', ...bound });
    }
    for (const [gateway, safety] of [
      ['hearth', 'kill-safe'],
      ['hearth, power-loss-safe', 'power-loss-safe'],
    ] as const) {
      const p99 = of('p99', gateway, mode, 32);
      if (p99 !== undefined) found.push({ name: `p99 at 32, ${mode}, ${safety}`, value: p99, unit: 'ms' });
    }
  }
  for (const row of rows)
    if (row.name.startsWith('memory of'))
      found.push({ ...row, ...(row.engine === 'hearth' && { most: MOST_IDLE_MB }) });
    else if (row.name.startsWith('first event as')) found.push(row);
  return found;
}
