import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Tunable, Verdict } from './tunable.ts';
import { readVerdicts, VerdictFile } from './verdictFile.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-verdicts-'));
  path = join(folder, 'made/on/the/way/tuning.json');
});
afterEach(() => rm(folder, { recursive: true }));

const tunable = (name: string, sources = 'text'): Tunable => ({
  ...{ name, names: ['rule', 'other'], sources },
  problem: () => Promise.reject(new Error('nothing is measured here')),
});
const OTHER: Verdict = { chosen: 'other', why: 'measured', seconds: { rule: 2e-3, other: 1e-3 }, dropped: [] };

test('what was kept is found again by another process, for the same adapter and sources alone', async () => {
  await (await VerdictFile.open(path, 'adapter')).keep(tunable('matmul'), OTHER);
  const again = await VerdictFile.open(path, 'adapter');
  expect(again.find(tunable('matmul'))).toEqual({ ...OTHER, why: 'stored' });
  expect(again.find(tunable('matmul', 'changed text'))).toBeNull();
  expect(again.find(tunable('attention'))).toBeNull();
  expect((await VerdictFile.open(path, 'adapter, next driver')).find(tunable('matmul'))).toBeNull();
});

test('new sources take the place of the old ones', async () => {
  const file = await VerdictFile.open(path, 'adapter');
  await file.keep(tunable('matmul'), OTHER);
  await file.keep(tunable('matmul', 'changed'), OTHER);
  expect(await readVerdicts(path)).toHaveLength(1);
});

test.each([
  ['not JSON', '{"version":1,"entr'],
  ['another version', '{"version":2,"entries":[]}'],
  ['something else', '[1, 2]'],
  [
    'entries that are none',
    '{"version":1,"entries":[7, {"adapter":"adapter"}, {"adapter":"a","name":"n","sources":"s","chosen":"c","seconds":{"c":-1},"dropped":[]}]}',
  ],
  [
    'a choice that was dropped',
    '{"version":1,"entries":[{"adapter":"a","name":"n","sources":"s","chosen":"c","seconds":{},"dropped":["c"]}]}',
  ],
])('a file with %s counts as none, and is written anew', async (_, text) => {
  path = join(folder, 'tuning.json');
  await writeFile(path, text);
  const file = await VerdictFile.open(path, 'adapter');
  expect(file.find(tunable('matmul'))).toBeNull();
  await file.keep(tunable('matmul'), OTHER);
  expect(await readVerdicts(path)).toHaveLength(1);
});

test('a choice that is no candidate any more is none', async () => {
  const file = await VerdictFile.open(path, 'adapter');
  await file.keep(tunable('matmul'), { ...OTHER, chosen: 'gone' });
  expect(file.find(tunable('matmul'))).toBeNull();
});

test('processes that write at once leave a whole file and nothing beside it', async () => {
  const writers = await Promise.all(Array.from({ length: 8 }, (_, i) => VerdictFile.open(path, `adapter ${i % 2}`)));
  const names = writers.map((_, i) => `operation ${i}`);
  await Promise.all(writers.map((writer, i) => writer.keep(tunable(names[i]!), OTHER)));
  expect(JSON.parse(await readFile(path, 'utf8')).version).toBe(1);
  expect((await readVerdicts(path)).length).toBeGreaterThan(0);
  expect(await readdir(join(path, '..'))).toEqual(['tuning.json']);
  // One after the other they lose nothing.
  for (const [i, writer] of writers.entries()) await writer.keep(tunable(names[i]!), OTHER);
  expect(new Set((await readVerdicts(path)).map(({ name }) => name))).toEqual(new Set(names));
});
