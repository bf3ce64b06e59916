import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { cacheOf, EngineHarness, request, solo } from '../test/support/engineHarness.ts';
import { type Unreliability, UnreliableTiers } from '../test/support/unreliableTiers.ts';

const prompt = (length: number, first = 1) => Array.from({ length }, (_, i) => (first + i * 5) % 64);
const LONG = prompt(200);

/** An engine with few blocks whose tiers hold all of LONG, and whose GPU holds none of it any more. */
async function warmTiers(mood: Partial<Unreliability> = {}, msPerStep = 0) {
  let tiers!: UnreliableTiers;
  const passTime = () => {
    harness.nowMs += msPerStep;
  };
  const harness: EngineHarness = new EngineHarness(
    { capacityBlocks: 18, maxStepTokens: 16, during: passTime },
    { maxRunning: 4 },
    (runner) => {
      tiers = new UnreliableTiers(runner.transfer, 1e6, {
        ...{ delay: () => 0, gives: (blocks: number) => blocks, maxLoadBlocks: 64 },
        ...mood,
      });
      return { tiers };
    },
  );
  const run = async () => {
    for (; await harness.engine.step(); await yieldToEvents()) harness.engine.checkInvariants();
  };
  harness.engine.submit(request('first', LONG));
  await run();
  for (const id of ['x', 'y']) {
    harness.engine.submit(request(id, prompt(230, id.charCodeAt(0)), { cache: cacheOf('other') }));
    await run();
  }
  expect(tiers.status().ram.blocks).toBeGreaterThan(12);
  return { harness, tiers, run };
}

describe('tier loads', () => {
  it('what left the GPU comes back rather than being computed again, with the same tokens', async () => {
    const { harness, tiers, run } = await warmTiers();
    const computed = harness.runner.computed;
    harness.engine.submit(request('again', LONG));
    await run();
    expect(tiers.loadedBlocks).toBe(12);
    expect(harness.of('again')).toMatchObject({ cachedTokens: 192, ids: (await solo(request('r', LONG))).ids });
    expect(harness.runner.computed - computed).toBe(8 + 3);
  });

  it('a long hit comes in parts, and the rest of a load that gave less is computed', async () => {
    const parts = await warmTiers({ maxLoadBlocks: 5 });
    parts.harness.engine.submit(request('again', LONG));
    await parts.run();
    expect([parts.tiers.loads, parts.harness.of('again').cachedTokens]).toEqual([3, 192]);
    const part = await warmTiers({ gives: (blocks) => Math.min(blocks, 7) });
    part.harness.engine.submit(request('again', LONG));
    await part.run();
    expect(part.tiers.loads).toBe(1);
    expect(part.harness.of('again')).toMatchObject({ cachedTokens: 112, ids: (await solo(request('r', LONG))).ids });
  });

  it('holds nobody up: others compute while it waits, and who needs the same blocks waits for them', async () => {
    let answered = false;
    const { harness, tiers, run } = await warmTiers({ delay: () => (answered ? 0 : 1_000_000) });
    harness.engine.submit(request('slow', LONG));
    harness.engine.submit(request('twin', LONG));
    harness.engine.submit(request('beside', prompt(20, 9), { cache: null, maxTokens: 5 }));
    for (let i = 0; i < 12; i++) await harness.engine.step();
    expect(harness.of('beside').end).toBe('length');
    expect(harness.told.has('slow')).toBe(false);
    expect(harness.engine.status()).toMatchObject({ running: 1, waiting: 1 });
    expect(harness.engine.cancel('slow')).toBe(true);
    answered = true;
    await run();
    expect(tiers.aborted).toBe(1);
    expect(harness.of('slow')).toMatchObject({ end: 'cancelled', ids: [] });
    expect(harness.of('twin')).toMatchObject({ end: 'length', cachedTokens: 192 });
  });

  it('ends by its deadline while nothing but a load is going on', async () => {
    const { harness, run } = await warmTiers({ delay: () => 1_000_000 });
    const deadlineMs = harness.nowMs + 3;
    harness.engine.submit(request('late', LONG, { deadlineMs }));
    await harness.engine.step();
    harness.nowMs = deadlineMs;
    await run();
    expect(harness.of('late')).toMatchObject({ end: 'deadline', ids: [] });
    const { blocksFree, blocksCached, blocksTotal } = harness.engine.status();
    expect(blocksFree + blocksCached).toBe(blocksTotal);
  });

  it('a load that takes much longer than estimated is given up: its request computes, and who followed it hits that', async () => {
    const { harness, tiers, run } = await warmTiers({ delay: () => 1_000_000 });
    for (const id of ['stuck', 'twin']) harness.engine.submit(request(id, LONG));
    await harness.engine.step();
    expect(harness.engine.status()).toMatchObject({ running: 1, waiting: 1 });
    harness.nowMs += 999;
    await harness.engine.step();
    expect(tiers.aborted).toBe(0);
    harness.nowMs += 2;
    await run();
    expect(tiers.aborted).toBe(1);
    expect(harness.of('stuck')).toMatchObject({ end: 'length', ids: (await solo(request('r', LONG))).ids });
    expect(harness.of('twin')).toMatchObject({ end: 'length', cachedTokens: 199 });
  });

  it('computes what that is quicker for, once both speeds are known', async () => {
    // A step of 16 tokens takes 4 ms: a block costs as much. Then loading at 3 ms a block is worth it, at 5 ms it isn't.
    for (const [msPerBlock, loads] of [
      [3, 1],
      [5, 0],
    ] as const) {
      const { harness, tiers, run } = await warmTiers({ msPerBlock }, 4);
      harness.engine.submit(request('again', LONG));
      await run();
      expect(tiers.loads).toBe(loads);
      expect(harness.of('again')).toMatchObject({ cachedTokens: loads * 192, end: 'length' });
    }
  });
});
