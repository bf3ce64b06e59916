import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { conversationHash, halfOf, readTrace, sampleOf } from './trace.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-trace-'));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(...lines: string[]): string {
  const file = join(folder, 'trace.jsonl');
  writeFileSync(file, lines.join('\n'));
  return file;
}
const line = (ids: number[], tokens = ids.length * 512) => JSON.stringify({ input_length: tokens, hash_ids: ids });

describe('a trace', () => {
  it('takes an id for its whole prefix: the same id after another one is another block', async () => {
    const { requests, blockCount } = await readTrace(fileOf(line([7, 8]), line([9, 8], 700), '', line([7, 8, 9])));
    expect(requests.map(({ blocks }) => [...blocks])).toEqual([
      [0, 1],
      [2, 3],
      [0, 1, 4],
    ]);
    expect(requests.map(({ endsPartial }) => endsPartial)).toEqual([false, true, false]);
    expect(blockCount).toBe(5);
  });

  it.each([
    ['{"input_length": 512, "hash_ids": [1', 'is not JSON'],
    ['[1]', '"hash_ids" must be'],
    ['null', 'is not an object'],
    ['{"input_length": 512}', '"hash_ids" must be'],
    ['{"input_length": 512, "hash_ids": [1.5]}', '"hash_ids" must be'],
    ['{"input_length": 512, "hash_ids": [-1]}', '"hash_ids" must be'],
    ['{"input_length": "512", "hash_ids": [1]}', '"input_length" must be'],
    ['{"input_length": -1, "hash_ids": [1]}', '"input_length" must be'],
  ])('refuses %s, and says in which line', async (bad, problem) => {
    const file = fileOf(line([1]), line([2]), bad);
    await expect(readTrace(file)).rejects.toThrow(`${file}:3: ${problem}`);
  });

  it.each([16, 128, 512, 1024])('of blocks of %i tokens is told by its lengths', async (size) => {
    const requests = Array.from({ length: 20 }, (_, i) => line([0, i + 1, i + 2], 2 * size + 1 + ((i * 7) % size)));
    const trace = await readTrace(fileOf(...requests, line([0], size)));
    expect(trace).toMatchObject({ blockTokens: size, unmeasured: 0 });
    expect(trace.requests.filter(({ endsPartial }) => endsPartial).length).toBeGreaterThan(10);
    expect(trace.requests.at(-1)!.endsPartial).toBe(false);
  });

  it('needs no lengths; one that does not fit says nothing of its last block, and is counted', async () => {
    const none = await readTrace(fileOf('{"hash_ids": [1, 2]}', '{"hash_ids": [1], "input_length": null}'));
    expect(none).toMatchObject({ blockTokens: null, unmeasured: 2 });
    const some = await readTrace(fileOf(line([1, 2], 600), line([1], 700), '{"hash_ids": [1, 2]}'));
    expect(some).toMatchObject({ blockTokens: 512, unmeasured: 2 });
    expect(some.requests.map(({ endsPartial }) => endsPartial)).toEqual([true, false, false]);
  });

  it('may have a byte order mark, CRLF, blank lines, requests of no blocks, and ids up to 2^53', async () => {
    const largest = Number.MAX_SAFE_INTEGER;
    const file = fileOf(`\uFEFF${line([largest])}\r`, '\r', `${line([])}\r`, `${line([largest, largest - 1])}\r`, '');
    const { requests } = await readTrace(file);
    expect(requests.map(({ blocks }) => [...blocks])).toEqual([[0], [0, 1]]);
  });

  it('refuses a file that is empty, a folder, or is not there', async () => {
    await expect(readTrace(folder)).rejects.toThrow("can't be read");
    await expect(readTrace(fileOf(''))).rejects.toThrow('no requests');
    await expect(readTrace(join(folder, 'absent'))).rejects.toThrow("can't be read");
  });

  it('samples whole conversations, about the part asked for, another one for another seed', async () => {
    const turns = Array.from({ length: 2_000 }, (_, i) => line([0, 1 + (i % 500), 1_000 + i]));
    const trace = await readTrace(fileOf(...turns));
    const kept = [1, 2].map((seed) => sampleOf(trace, 0.25, seed).requests);
    for (const requests of kept) {
      expect(requests.length % 4).toBe(0);
      expect(requests.length).toBeGreaterThan(300);
      expect(requests.length).toBeLessThan(700);
    }
    expect(kept[0]).not.toEqual(kept[1]);
    const hashes = new Set(kept[0]!.map((request) => conversationHash(request, 1)));
    expect(hashes.size).toBe(kept[0]!.length / 4);
  });

  it('falls into two halves', async () => {
    const trace = await readTrace(fileOf(line([1]), line([2]), line([3])));
    expect([...halfOf(trace, 'first').requests, ...halfOf(trace, 'second').requests]).toEqual(trace.requests);
  });
});
