// The same request cold, warm from the GPU, from RAM, from disk, and after a restart: the same ids and the same logprobs, to the bit, on
// the real adapter; and that it really came from there.
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../engine/engine.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import type { PositionLogprob } from '../engine/request.ts';
import { TierStore } from '../engine/tiers/tierStore.ts';
import { cacheOf, request } from './support/engineHarness.ts';
import { testDevice } from './support/gpu.ts';
import { randomOf } from './support/random.ts';
import { scopeOf, until } from './support/tierRig.ts';
import { openTinyModel, TINY_VOCAB, type TinyModelFile } from './support/tinyModelFile.ts';

const KV_BLOCKS = 20;
const SEED = 8;

let tiny: TinyModelFile;
beforeAll(async () => {
  tiny = await openTinyModel();
});
afterAll(() => tiny.close());

const random = randomOf(SEED);
const promptOf = (length: number): number[] => Array.from({ length }, () => Math.floor(random() * TINY_VOCAB));
const runnerOf = async (activations: 'int8' | 'f32'): Promise<ModelRunner> =>
  createLlamaRunner({ gpu: await testDevice(), file: tiny.file, activations, kvBlocks: KV_BLOCKS, maxStepTokens: 64 });

interface Answer {
  ids: number[];
  logprobs: PositionLogprob[];
  cachedTokens: number;
}

/** A pool's engine over `runner`, with tiers of its own on the shared folder. */
async function poolOf(runner: ModelRunner, ramBytes: number) {
  const options = { ramBytes, diskFolder: join(tiny.folder, 'kv'), diskBytes: 1e9, writeThrough: true };
  const store = new TierStore(options, Date.now, () => {});
  await store.start();
  await store.look();
  const tiers = store.cacheFor(runner.transfer, runner.fingerprint);
  let answer: Answer = { ids: [], logprobs: [], cachedTokens: 0 };
  let asked = 0;
  const engine = new Engine({
    ...{ runner, tiers, clock: Date.now },
    onOutputs: (outputs) => {
      for (const output of outputs) {
        answer.ids.push(...output.ids);
        answer.logprobs.push(...(output.logprobs ?? []));
        answer.cachedTokens = output.cachedTokens ?? answer.cachedTokens;
      }
    },
    onFatal: (error) => {
      throw error;
    },
  });
  const ask = async (prompt: number[], cached: boolean, maxTokens = 12): Promise<Answer> => {
    answer = { ids: [], logprobs: [], cachedTokens: 0 };
    const cache = cached ? cacheOf('alice', { scope: scopeOf('alice') }) : null;
    engine.submit(request(`r${asked++}`, prompt, { cache, maxTokens, logprobs: 5 }));
    while (await engine.step());
    engine.checkInvariants();
    return answer;
  };
  return {
    ...{ engine, tiers, store, ask },
    /** Fills the whole arena with other prompts, so that nothing of before is left on the GPU. */
    flood: () => ask(promptOf(KV_BLOCKS * 16 - 4), false, 2),
    written: () =>
      until(() => tiers.status().waitingCopies === 0 && tiers.status().disk?.queuedWrites === 0, 'written'),
  };
}

it('a request has the same bits from every tier', async () => {
  const prompt = promptOf(100);
  const runner = await runnerOf('int8');
  const first = await poolOf(runner, 1e8);
  const cold = await first.ask(prompt, true);
  expect(cold).toMatchObject({ cachedTokens: 0 });
  const same = (answer: Answer, cachedTokens: number) => {
    expect(answer.ids).toEqual(cold.ids);
    expect(answer.logprobs).toEqual(cold.logprobs);
    expect(answer.cachedTokens).toBe(cachedTokens);
  };

  same(await first.ask(prompt, true), 99);
  expect(first.tiers.status().ram.hits).toBe(0); // it was still on the GPU

  await first.flood();
  await first.written();
  same(await first.ask(prompt, true), 96);
  expect(first.tiers.status().ram.hits).toBe(6);

  await first.flood();
  const second = await poolOf(runner, 0); // another pool of the same model, without RAM
  same(await second.ask(prompt, true), 96);
  expect(second.tiers.status().disk).toMatchObject({ hits: 6, stored: 0 });

  const restarted = await poolOf(await runnerOf('int8'), 1e8);
  same(await restarted.ask(prompt, true), 96);
  expect(restarted.tiers.status().disk?.hits).toBe(6);

  const other = await poolOf(await runnerOf('f32'), 1e8); // another numerics class: not its cache
  expect((await other.ask(prompt, true)).cachedTokens).toBe(0);
  for (const { store } of [first, second, restarted, other]) await store.close(0);
}, 120_000);
