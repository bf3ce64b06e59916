// An engine sleeps and wakes on the real adapter: the device's memory is given back whole, and a request has the same bits afterwards, its
// prefix from the tiers; also where the device itself was lost, awake or asleep.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../engine/engine.ts';
import { type OpenedDevice, openDevice } from '../engine/gpu/device.ts';
import { SleepingLlama } from '../engine/llama/sleepingModel.ts';
import { SleepingRunner } from '../engine/sleepingRunner.ts';
import { TierStore } from '../engine/tiers/tierStore.ts';
import { cacheOf, request } from './support/engineHarness.ts';
import { randomOf } from './support/random.ts';
import { scopeOf } from './support/tierRig.ts';
import { openTinyModel, TINY_VOCAB, type TinyModelFile } from './support/tinyModelFile.ts';

const SEED = 12;

let tiny: TinyModelFile;
beforeAll(async () => {
  tiny = await openTinyModel();
});
afterAll(() => tiny.close());

const random = randomOf(SEED);
const PROMPT = Array.from({ length: 100 }, () => Math.floor(random() * TINY_VOCAB));

const { dawnFlags = [] }: { dawnFlags?: string[] } = JSON.parse(process.env.HEARTH_TEST_ADAPTER ?? '{}');

async function openEngine() {
  const devices: OpenedDevice[] = [];
  const model = new SleepingLlama(
    { file: tiny.file, activations: 'int8', kvBlocks: 40, maxStepTokens: 64 },
    async () => {
      devices.push(await openDevice({ dawnFlags }));
      return devices.at(-1)!;
    },
  );
  const runner = await SleepingRunner.open(model);
  const store = new TierStore(
    { ramBytes: 1e8, diskFolder: null, diskBytes: 0, writeThrough: false },
    Date.now,
    () => {},
  );
  const tiers = store.cacheFor(runner.transfer, runner.fingerprint);
  const failures: unknown[] = [];
  let ids: number[] = [];
  let cachedTokens = -1;
  const engine = new Engine({
    ...{ runner, tiers, clock: Date.now },
    onOutputs: (outputs) => {
      for (const output of outputs) {
        ids.push(...output.ids);
        cachedTokens = output.cachedTokens ?? cachedTokens;
      }
    },
    onFatal: (error) => failures.push(error),
  });
  let asked = 0;
  const ask = async () => {
    ids = [];
    cachedTokens = -1;
    engine.submit(request(`r${asked++}`, PROMPT, { cache: cacheOf('a', { scope: scopeOf('a') }), maxTokens: 12 }));
    while (await engine.step());
    engine.checkInvariants();
    return { ids, cachedTokens };
  };
  const sleep = async () => {
    await engine.sleep();
    await runner.sleep();
  };
  const wake = async () => {
    await runner.wake();
    engine.wake();
  };
  return { runner, engine, tiers, devices, failures, ask, sleep, wake };
}

it('asleep it holds no byte of the device; awake again it has the same bits, and the cache it had', async () => {
  const { runner, engine, tiers, devices, ask, sleep, wake } = await openEngine();
  const cold = await ask();
  const awakeBytes = runner.deviceBytes;
  for (let round = 0; round < 3; round++) {
    await sleep();
    expect(runner.deviceBytes).toBe(0);
    expect(engine.status()).toMatchObject({ blocksFree: 40, blocksCached: 0 });
    await wake();
    expect(runner.deviceBytes).toBeLessThanOrEqual(awakeBytes);
    expect(runner.deviceBytes).toBeGreaterThan(awakeBytes / 2); // read-backs of logits are made when they are wanted
    expect(await ask()).toEqual({ ids: cold.ids, cachedTokens: 96 });
  }
  expect(tiers.status().ram.hits).toBe(18);
  expect(devices).toHaveLength(1);
  runner.destroy();
}, 120_000);

it.each(['awake', 'asleep', 'falling asleep'])(
  'after its device was lost %s, it goes on with a new one, the same bits',
  async (how) => {
    const { runner, engine, devices, failures, ask, sleep, wake } = await openEngine();
    const cold = await ask();
    if (how === 'asleep') await sleep();
    devices[0]!.destroy();
    await devices[0]!.lost;
    if (how === 'falling asleep') await sleep();
    if (how === 'awake') {
      engine.submit(request('lost', PROMPT, { maxTokens: 2 }));
      while (await engine.step());
      expect(failures).toMatchObject([{ code: 'device_lost' }]);
    }
    await wake();
    expect(devices).toHaveLength(2);
    // What was copied before a sleep outlives the device; what only the device had is computed again.
    expect(await ask()).toEqual({ ids: cold.ids, cachedTokens: how === 'asleep' ? 96 : 0 });
    runner.destroy();
  },
  120_000,
);
