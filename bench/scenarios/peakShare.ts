// What share of the adapter's multiply-adds the products of a layer reach, both measured in turn by the kernel bench.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Bench } from '../bench.ts';
import { median, type Row } from '../report.ts';

interface Measured {
  operation: string;
  parameters: Record<string, string | number>;
  macs: number;
  seconds: number[];
}

export async function peakShare({ adapter, rounds, quick, say }: Bench): Promise<Row[]> {
  say('  kernels beside peaks');
  const script = fileURLToPath(new URL('../kernels/measure.ts', import.meta.url));
  const task = { dawnFlags: adapter.dawnFlags, operations: ['layer'], rounds, quick };
  const child = spawnSync(process.execPath, [script, JSON.stringify(task)], {
    ...{ encoding: 'utf8', env: adapter.env, stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 2 ** 22 },
  });
  const line = child.stdout.trim().split('\n').at(-1);
  if (child.status !== 0 || !line) throw new Error(`measuring kernels ended with ${child.status ?? child.signal}`);
  const { rows }: { rows: Measured[] } = JSON.parse(line);
  const rate = ({ macs, seconds }: Measured): number => macs / median(seconds);
  const peak = rate(rows.find(({ parameters }) => parameters.peak === 'fma')!);
  const shares = rows
    .filter(({ operation }) => operation === 'layer')
    .map((each): Row => {
      const tokens = Number(each.parameters.tokens);
      const name = `share of FMA peak, ${tokens === 1 ? 'decode' : 'prefill'} matmul`;
      return { name, value: rate(each) / peak, unit: '', engine: 'hearth', tokens, aim: tokens === 1 ? 0.38 : 0.65 };
    });
  return [{ name: 'FMA peak', value: (2 * peak) / 1e9, unit: 'GFLOP/s', engine: 'hearth' }, ...shares];
}
