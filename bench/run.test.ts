// The bench at its smallest: so that it can't rot, and that its file has the form which plots are drawn from.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { inTurn } from './bench.ts';
import { ofAim } from './plot.ts';
import type { Report } from './report.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

const script = fileURLToPath(new URL('./run.ts', import.meta.url));

test('measures the real engine in turn, writes its rows, and draws those with an aim', () => {
  const json = join(folder, 'bench.json');
  const small = ['decode', 'prefill', 'batch', '--no-peers', '--quick', '--rounds', '1'];
  execFileSync(process.execPath, [script, ...small, '--json', json], { stdio: 'ignore' });
  const report: Report = JSON.parse(readFileSync(json, 'utf8'));
  expect(report.commit).toMatch(/^([0-9a-f]{12}\+?|unknown)$/);
  expect(report.adapter).not.toBe('unknown');
  expect(report.rows.map(({ scenario, name, unit }) => [scenario, name, unit])).toEqual([
    ['decode', 'decode', 'tok/s'],
    ['decode', 'device time of a decode step', 'ms'],
    ['decode', 'host time of a decode step', 'ms'],
    ['decode', 'host share of a decode step', ''],
    ['prefill', 'prefill', 'tok/s'],
    ['prefill', 'first token', 'ms'],
    ['batch', 'decode, 3 streams', 'tok/s'],
    ['batch', 'decode, 3 streams / 1 stream', '×'],
  ]);
  for (const { value } of report.rows) expect(value).toBeGreaterThan(0);
  const picture = readFileSync(join(folder, 'bench.svg'), 'utf8');
  expect(picture.match(/<rect x=/g)).toHaveLength(3);
});

test('a scenario that is not there is named, with those that are', () => {
  const { status, stderr } = spawnSync(process.execPath, [script, 'training'], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toMatch(/no scenario training; there are: decode, prefill/);
});

test('turns alternate, and their figures are medians', async () => {
  const order: string[] = [];
  const values = { a: [5, 1, 3], b: [10, 20, 90] };
  const turn = (name: 'a' | 'b') => ({
    name,
    measure: async () => {
      order.push(name);
      return { value: values[name].shift()! };
    },
  });
  const figures = await inTurn({ rounds: 3, say: () => {} }, [turn('a'), turn('b')]);
  expect(order).toEqual(['a', 'b', 'b', 'a', 'a', 'b']);
  expect(figures).toEqual([{ value: 3 }, { value: 20 }]);
});

test('an aim that is a least or a most is met at 1', () => {
  const row = { name: 'x', unit: '' };
  expect([ofAim({ ...row, value: 44, aim: 22 }), ofAim({ ...row, value: 0.2, most: 0.1 })]).toEqual([2, 0.5]);
  expect(ofAim({ ...row, value: 1 })).toBeNull();
});
