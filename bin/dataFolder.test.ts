import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { makeDataFolder } from './dataFolder.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-data-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('is made with all above it, for its owner alone, and made again at no harm', () => {
  const path = join(folder, 'a', 'b', 'c');
  makeDataFolder(path);
  makeDataFolder(path);
  expect(statSync(path).mode & 0o777).toBe(0o700);
});

it('that can never be is refused at once, with what to do', () => {
  writeFileSync(join(folder, 'file'), '');
  for (const path of ['/proc/nope/deeper', join(folder, 'file', 'below')])
    expect(() => makeDataFolder(path)).toThrow(/can't be written \(E\w+\)\. Set HEARTH_DATA_DIR/);
});
