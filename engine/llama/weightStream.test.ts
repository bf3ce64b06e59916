// What happens to a load that the file spoils. That weights arrive whole and in their places is shown by every forward pass (test/).
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { testDevice } from '../../test/support/gpu.ts';
import { writeTinyModel } from '../../test/support/tinyModel.ts';
import { openModelFile } from '../model/modelFile.ts';
import { uploadWeights } from './weights.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-weights-'));
});
afterAll(() => rm(folder, { recursive: true }));

test('a file cut while it is loaded ends the load with an error that names the tensor, and progress never reaches the end', async () => {
  const path = join(folder, 'cut.gguf');
  const shape = { layers: 2, hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 16, vocabSize: 320 };
  await writeTinyModel(path, { ...shape, contextLength: 64, type: 'Q4_1', tied: true, seed: 1 });
  const { file } = await openModelFile(path);
  const tensor = file.tensors.get('blk.1.ffn_up.weight')!;
  await truncate(path, tensor.offset + 10);
  const { device } = await testDevice();
  const seen: number[] = [];
  const options = { uniformWindows: true, maxBindingBytes: 2 ** 24 };
  const load = uploadWeights(device, file, options, (done, total) => seen.push(done / total));
  await expect(load).rejects.toMatchObject({ code: 'truncated', message: expect.stringContaining(tensor.name) });
  expect(seen.length).toBeGreaterThan(2);
  expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  expect(seen.at(-1)).toBeLessThan(1);
  await file.close();
});
