// The engine thread with the simulated runner instead of a GPU: everything else is the real thing. The "model file" is JSON that
// says how slow the runner is and when it breaks.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { z } from 'zod';
import { invariant } from '../../engine/invariant.ts';
import { contextLengthOf } from '../../pool/engineGroups.ts';
import type { EngineSetup } from '../../pool/engineMessages.ts';
import { EngineThread, type PrepareModel } from '../../pool/engineThread.ts';
import { BYTE_TEXT_VOCAB } from './byteText.ts';
import { PagedRunner } from './pagedRunner.ts';

export const pagedModelFile = z.object({
  stepMs: z.number().default(0),
  contextLength: z.int().default(512),
  /** Of 100 tokens, those that go on from the last in steps of 7. */
  follows: z.int().default(0),
  /** What the KV budget counts for a block. */
  blockBytes: z.int().default(1024),
  /** The runner throws in this step. */
  throwAtStep: z.int().optional(),
  /** The same in each step from there on whose number it divides. */
  throwEvery: z.int().optional(),
  /** How long waking takes, and the weights that it has to bring back. */
  wakeMs: z.int().default(0),
  weightBytes: z.int().default(1024),
  /** The so-many-th opening, the first one counted, fails. */
  refuseAtOpening: z.int().optional(),
  /** The whole thread dies in this step. */
  crashAtStep: z.int().optional(),
  /** Opening the model fails with these words. */
  refuse: z.string().optional(),
});
export type PagedModelFile = z.input<typeof pagedModelFile>;

class GpuGone extends Error {
  readonly code = 'device_lost';
}

invariant(parentPort, 'runs as a worker');
const setup: EngineSetup = workerData;
const prepare: PrepareModel = async (model) => {
  const file = pagedModelFile.parse(JSON.parse(readFileSync(model.path, 'utf8')));
  if (file.refuse) throw new Error(file.refuse);
  let steps = 0;
  const open = (kvBlocks: number) =>
    new PagedRunner({
      vocabSize: BYTE_TEXT_VOCAB,
      follows: file.follows,
      contextLength: Math.min(file.contextLength, contextLengthOf(model) ?? file.contextLength),
      capacityBlocks: kvBlocks,
      maxStepTokens: setup.bounds.maxStepTokens ?? 64,
      during: async () => {
        steps += 1;
        if (steps === file.throwAtStep) throw new GpuGone('the GPU device was lost: a test');
        if (file.throwEvery && steps % file.throwEvery === 0)
          throw new GpuGone('the GPU device was lost again: a test');
        if (steps === file.crashAtStep) process.exit(7);
        if (file.stepMs > 0) await sleep(file.stepMs);
      },
    });
  let opened = 0;
  return {
    blockBytes: file.blockBytes,
    weightBytes: file.weightBytes,
    model: (kvBlocks) => ({
      adapterName: 'paged runner',
      deviceBytes: file.weightBytes + kvBlocks * file.blockBytes,
      giveBack: async () => {},
      open: async () => {
        opened += 1;
        if (opened > 1) await sleep(file.wakeMs);
        if (opened === file.refuseAtOpening) throw new Error('it can not be opened again: a test');
        return open(kvBlocks);
      },
      destroy: () => {},
    }),
    close: async () => {},
  };
};
await new EngineThread(parentPort, setup).start(prepare);
