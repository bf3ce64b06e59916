// A tiny random model, opened, in a folder of the test's own: for tests of the real engine on the real adapter.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModelFile } from '../../engine/model/modelFile.ts';
import type { ModelFile } from '../../engine/model/types.ts';
import { writeTinyModel } from './tinyModel.ts';

export const TINY_VOCAB = 300;
export const TINY_CONTEXT = 320;
const SHAPE = { layers: 3, hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 32, vocabSize: TINY_VOCAB };

export interface TinyModelFile {
  file: ModelFile;
  /** Goes with it. */
  folder: string;
  close(): Promise<void>;
}

export async function openTinyModel(): Promise<TinyModelFile> {
  const folder = await mkdtemp(join(tmpdir(), 'hearth-tiny-'));
  const path = join(folder, 'tiny.gguf');
  await writeTinyModel(path, { ...SHAPE, contextLength: TINY_CONTEXT, type: 'Q4_1', tied: true, seed: 9 });
  const { file } = await openModelFile(path);
  return {
    ...{ file, folder },
    close: async () => {
      await file.close();
      await rm(folder, { recursive: true });
    },
  };
}
