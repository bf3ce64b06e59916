// The pools of a storm with the real engine: a tiny random model on whatever GPU there is, in the process that serves for real.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PagedPoolOptions } from '../support/pagedPool.ts';
import { writeTinyModel } from '../support/tinyModel.ts';

const MAIN = fileURLToPath(new URL('../../pool/main.ts', import.meta.url));

export async function realEngine(): Promise<{ model: string; engine: PagedPoolOptions; close: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-storm-model-'));
  const path = join(folder, 'tiny.gguf');
  await writeTinyModel(path, {
    ...{
      layers: 2,
      hidden: 64,
      feedForward: 128,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      vocabSize: 320,
      contextLength: 512,
    },
    ...{ type: 'Q8_0', tied: true, seed: 1 },
  });
  const model = 'tiny';
  return {
    model,
    engine: {
      models: [{ id: model, path, kvBlocks: 256 }],
      supervisor: { args: [MAIN], env: { ...process.env } },
    },
    close: async () => rmSync(folder, { recursive: true, force: true }),
  };
}
