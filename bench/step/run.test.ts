// The step bench at its smallest, so that it can't rot: every kernel of a decode step, timed on the GPU.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import type { Report } from '../report.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-step-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('a decode step, kernel by kernel, by the timestamps of the GPU', () => {
  const json = join(folder, 'step.json');
  const script = fileURLToPath(new URL('./run.ts', import.meta.url));
  execFileSync(process.execPath, [script, '--quick', '--rounds', '1', '--json', json], { stdio: 'ignore' });
  const { rows }: Report = JSON.parse(readFileSync(json, 'utf8'));
  const [whole, ...kernels] = rows;
  expect(whole).toMatchObject({ name: 'step', unit: 'ms' });
  expect(kernels.reduce((sum, { dispatches }) => sum + Number(dispatches), 0)).toBe(whole!.dispatches);
  for (const part of ['matmul', 'attention', 'normalize', 'embed', 'sample'])
    expect(
      kernels.some(({ name, value }) => name.startsWith(part) && value > 0),
      part,
    ).toBe(true);
});
