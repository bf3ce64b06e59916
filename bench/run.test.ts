// The bench at its smallest: so that it can't rot, and that its file has the form which plots are drawn from.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { median, type Report } from './report.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('measures the real engine and writes its rows', () => {
  const json = join(folder, 'bench.json');
  const script = fileURLToPath(new URL('./run.ts', import.meta.url));
  const small = ['--no-peers', '--prompt', '20', '--generate', '2', '--rounds', '1'];
  execFileSync(process.execPath, [script, ...small, '--json', json], { stdio: 'ignore' });
  const report: Report = JSON.parse(readFileSync(json, 'utf8'));
  expect(report.commit).toMatch(/^([0-9a-f]{12}\+?|unknown)$/);
  expect(report.adapter).not.toBe('unknown');
  expect(report.rows.map(({ name, unit, engine, prompt }) => [name, unit, engine, prompt])).toEqual([
    ['prefill', 'tok/s', 'hearth', 20],
    ['decode', 'tok/s', 'hearth', 20],
    ['time to first token', 'ms', 'hearth', 20],
  ]);
  for (const { value } of report.rows) expect(value).toBeGreaterThan(0);
});

test('the median of an even number of values is the middle of the middle two', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([9, 1, 5])).toBe(5);
});
