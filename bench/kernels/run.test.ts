// The kernel bench at its smallest, so that it can't rot: a case of an operation beside one peak.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import type { Report } from '../report.ts';

const script = fileURLToPath(new URL('./run.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'hearth-kernels-'));
afterAll(() => rmSync(folder, { recursive: true }));

function measured(...operations: string[]): Report['rows'] {
  const json = join(folder, 'kernels.json');
  const args = [script, ...operations, '--quick', '--rounds', '1', '--json', json];
  execFileSync(process.execPath, args, { stdio: 'ignore' });
  const { rows }: Report = JSON.parse(readFileSync(json, 'utf8'));
  return rows;
}

test('measures a kernel and the peak beside it, and writes both', () => {
  const rows = measured('matmul');
  expect(rows.find(({ operation, name }) => operation === 'peak' && name === 'arithmetic')).toMatchObject({
    ...{ peak: 'fma', unit: 'GFLOP/s', rounds: 1 },
  });
  const shares = rows.filter(({ operation, name }) => operation === 'matmul' && name === 'share of FMA peak');
  expect(shares.map(({ columns }) => columns)).toEqual([1, 2, 3, 4]);
  for (const { value } of shares) expect(value).toBeGreaterThan(0);
});

test('what works token by token is measured by what it reads and writes', () => {
  const operations = ['embed', 'normalize', 'quantize', 'rope'];
  const memory = measured(...operations).filter(({ name, operation }) => name === 'memory' && operation !== 'peak');
  expect(memory.map(({ operation }) => operation)).toEqual(operations);
  for (const { value, unit } of memory) {
    expect(unit).toBe('GB/s');
    expect(value).toBeGreaterThan(0);
  }
});

test('an operation that is not there is named, with those that are', () => {
  const { status, stderr } = spawnSync(process.execPath, [script, 'conv'], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toMatch(
    /no operation conv; there are: layer, matmul, forms, attention, sample, embed, normalize, quantize, rope/,
  );
});
