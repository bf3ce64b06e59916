import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkTuning, forgetTuning } from './tuningFindings.ts';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-tuning-'));
  file = join(folder, 'tuning.json');
});
afterEach(() => rm(folder, { recursive: true }));

const HERE = { info: { vendor: 'mesa', architecture: 'software', device: 'llvmpipe', description: 'Mesa 25' } };
const MEASURED = {
  ...{ adapter: 'mesa/software/llvmpipe/Mesa 25/subgroup 8-8 EPYC', sources: 's', chosen: 'b', dropped: ['c'] },
  ...{ name: 'matmul q4', seconds: { a: 2e-3, b: 1.5e-3 } },
};

test('what was measured on this adapter is told with its reason; on others it is not', async () => {
  const columns = {
    ...MEASURED,
    name: 'columns of q4',
    chosen: 'columns-1',
    seconds: { 'columns-1': 1e-3 },
    dropped: [],
  };
  const rule = { ...MEASURED, name: 'attention', chosen: 'a', dropped: [] };
  const other = { ...MEASURED, adapter: 'mesa/software/llvmpipe/Mesa 26/subgroup 8-8 EPYC', name: 'elsewhere' };
  await writeFile(file, JSON.stringify({ version: 1, entries: [MEASURED, columns, rule, other] }));
  expect((await checkTuning(file, HERE)).text.split('\n')).toEqual([
    'matmul q4: b (measured, 25 % less time than the default a); dropped by the self-test: c',
    'columns of q4: columns-1 1000 µs',
    'attention: a (the default, measured)',
  ]);
});

test('without measurements it is by rule, and what was thrown away is gone', async () => {
  expect((await checkTuning(file, HERE)).text).toContain('by rule');
  await writeFile(file, JSON.stringify({ version: 1, entries: [MEASURED] }));
  await forgetTuning(file);
  expect(existsSync(file)).toBe(false);
  await forgetTuning(file);
});
