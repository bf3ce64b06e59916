// The pools of a storm with the real engine: a tiny random model on whatever GPU there is, in the process that serves for real.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PagedPoolOptions } from '../support/pagedPool.ts';
import { openTinyModel } from '../support/tinyModelFile.ts';

const MAIN = fileURLToPath(new URL('../../pool/main.ts', import.meta.url));

export async function realEngine(): Promise<{ model: string; engine: PagedPoolOptions; close: () => Promise<void> }> {
  const tiny = await openTinyModel();
  const model = 'tiny';
  return {
    model,
    engine: {
      models: [{ id: model, path: join(tiny.folder, 'tiny.gguf'), kvBlocks: 256 }],
      supervisor: { args: [MAIN], env: { ...process.env } },
    },
    close: tiny.close,
  };
}
