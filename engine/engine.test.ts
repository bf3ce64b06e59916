import { describe, expect, it } from 'vitest';
import { cacheOf, EngineHarness, GREEDY, request, solo } from '../test/support/engineHarness.ts';
import { expectLogprob } from '../test/support/exactLogprob.ts';
import { PagedRunner } from '../test/support/pagedRunner.ts';
import { Engine } from './engine.ts';
import type { SequenceOutput } from './request.ts';

const prompt = (length: number, first = 1) => Array.from({ length }, (_, i) => (first + i * 5) % 64);
const SAMPLED = { ...GREEDY, temperature: 1, seed: '42' };

describe('engine', () => {
  it('generates to max_tokens, or to an end token that is still released', async () => {
    const plain = await solo(request('r', prompt(20), { maxTokens: 6 }));
    expect(plain).toMatchObject({ end: 'length', cachedTokens: 0 });
    expect(plain.ids).toHaveLength(6);
    const stopped = await solo(request('r', prompt(20), { maxTokens: 6, eosIds: [plain.ids[3]!] }));
    const first = plain.ids.indexOf(plain.ids[3]!);
    expect(stopped).toMatchObject({ end: 'stop', ids: plain.ids.slice(0, first + 1) });
  });

  it('each choice draws with its own noise, and the same request draws the same', async () => {
    const [a, b, again] = await Promise.all(
      [0, 1, 0].map((choice) => solo(request('r', prompt(9), { choice, maxTokens: 16, sampling: SAMPLED }))),
    );
    expect(a!.ids).not.toEqual(b!.ids);
    expect(a!.ids).toEqual(again!.ids);
  });

  it('tells logprobs of the raw logits, whatever the sampling', async () => {
    const asked = request('r', prompt(9), {
      maxTokens: 5,
      logprobs: 3,
      sampling: { ...SAMPLED, temperature: 0.3, logitBias: [[7, 50]], presencePenalty: 1 },
    });
    const told = await solo(asked);
    const runner = new PagedRunner();
    const tokens = Int32Array.from([...asked.promptIds, ...told.ids]);
    const { logits } = await runner.step([
      { tokens, start: 0, blockTable: Int32Array.of(0, 1), logitsFor: [8, 9, 10, 11, 12] },
    ]);
    told.logprobs.forEach((logprob, i) => {
      expectLogprob(logprob, logits.subarray(i * 64, (i + 1) * 64), told.ids[i]!, 3);
    });
    expect(told.ids).toContain(7);
  });

  it.each([
    [1, 0],
    [1, 3],
    [2, 0],
    [40, 0],
    [40, 5],
    [64, 2],
  ])('scores a prompt of %i tokens and generates %i, within the rows of a step', async (length, maxTokens) => {
    const harness = new EngineHarness({ maxStepTokens: 24, maxStepLogits: 7 });
    const ids = prompt(length);
    // A warm cache must not keep positions from being scored.
    harness.engine.submit(request('warm', ids));
    await harness.finish();
    const asked = request('r', ids, { maxTokens, promptLogprobs: 2 });
    harness.engine.submit(asked);
    harness.engine.submit(request('beside', prompt(30, 3)));
    await harness.finish();
    const told = harness.of('r');
    expect(told).toMatchObject({ end: 'length', cachedTokens: 0 });
    expect(told.ids).toHaveLength(maxTokens);
    expect(told.promptLogprobs.map(({ id }) => id)).toEqual(ids);
    expect(told.promptLogprobs[0]).toEqual({ id: ids[0], logprob: null, top: [] });
    const { logits } = await new PagedRunner({ maxStepLogits: 64 }).step([
      {
        tokens: Int32Array.from(ids),
        start: 0,
        blockTable: Int32Array.of(3, 1, 0, 2),
        logitsFor: ids.map((_, i) => i),
      },
    ]);
    for (let i = 1; i < length; i++)
      expectLogprob(told.promptLogprobs[i], logits.subarray((i - 1) * 64, i * 64), ids[i]!, 2);
  });

  it('warms the cache with max_tokens 0', async () => {
    const harness = new EngineHarness();
    harness.engine.submit(request('warm', prompt(40), { maxTokens: 0 }));
    await harness.finish();
    expect(harness.of('warm')).toMatchObject({ end: 'length', ids: [] });
    harness.engine.submit(request('r', prompt(40)));
    await harness.finish();
    expect(harness.of('r').cachedTokens).toBe(39);
  });

  it('a conversation’s next turn finds prompt and answer of the last', async () => {
    const harness = new EngineHarness();
    harness.engine.submit(request('turn1', prompt(20), { maxTokens: 20 }));
    await harness.finish();
    const next = [...prompt(20), ...harness.of('turn1').ids, 1, 2, 3];
    harness.engine.submit(request('turn2', next));
    await harness.finish();
    expect(harness.of('turn2').cachedTokens).toBe(39);
    expect(harness.of('turn2').ids).toEqual((await solo(request('turn2', next))).ids);
  });

  it('output of an earlier life is computed and charged like a prompt, and is none of what is cached or told', async () => {
    const harness = new EngineHarness();
    const whole = request('whole', prompt(20), { maxTokens: 30 });
    harness.engine.submit(whole);
    await harness.finish();
    const { ids } = harness.of('whole');
    const outputIds = Int32Array.from(ids.slice(0, 24));
    harness.engine.submit({ ...whole, id: 'warm', outputIds });
    harness.engine.submit({ ...whole, id: 'cold', tenant: 'b', cache: cacheOf('scope-b'), outputIds });
    await harness.finish();
    const rest = { from: 24, ids: ids.slice(24), end: 'length' };
    expect(harness.of('warm')).toMatchObject({ ...rest, cachedTokens: 20 });
    expect(harness.of('cold')).toMatchObject({ ...rest, cachedTokens: 0 });
    const { tenants } = harness.engine.attribution();
    const [a, b] = ['a', 'b'].map((name) => tenants.find(({ tenant }) => tenant === name)!);
    expect(b).toMatchObject({ computedTokens: 44 + 5, outputTokens: 6, served: 44 + 6 * 2 });
    // The cache has all that it may answer of 44 positions: one is computed.
    expect(a).toMatchObject({ computedTokens: 20 + 29 + 1 + 5, outputTokens: 36 });
    expect(a!.served).toBeCloseTo(20 + 30 * 2 + 20 * 0.1 + 1 + 6 * 2, 9);
  });

  it.each([
    ['as many outputs as it may have', { outputIds: Int32Array.of(1, 2, 3, 4) }],
    ['an output outside the vocabulary', { outputIds: Int32Array.of(64) }],
    ['an end among its outputs', { outputIds: Int32Array.of(1, 7), eosIds: [7] }],
    ['outputs behind a prompt that is not scored', { outputIds: Int32Array.of(1), promptLogprobs: 0, scored: 19 }],
    ['more scored than its prompt', { promptLogprobs: 0, scored: 21 }],
  ])('who goes on never has %s', (_, over) => {
    expect(() => new EngineHarness().engine.submit(request('r', prompt(20), over))).toThrow();
  });

  it('no tenant hits what another cached', async () => {
    const harness = new EngineHarness();
    harness.engine.submit(request('a', prompt(40)));
    await harness.finish();
    harness.engine.submit(request('b', prompt(40), { tenant: 'b', cache: cacheOf('scope-b') }));
    await harness.finish();
    expect(harness.of('b').cachedTokens).toBe(0);
  });

  it('refuses what can never fit, with the numbers', () => {
    const { engine } = new EngineHarness({ contextLength: 100, capacityBlocks: 4 });
    expect(engine.submit(request('r', prompt(60), { maxTokens: 41 }))).toMatchObject({
      code: 'context_length_exceeded',
      message: expect.stringContaining('100'),
    });
    // 65 positions need KV, the last output token does not.
    expect(engine.submit(request('r', prompt(60), { maxTokens: 6 }))?.message).toContain('5 KV blocks');
    expect(engine.submit(request('r', prompt(60), { maxTokens: 5 }))).toBeNull();
  });

  it('takes all choices of a request or none, and refuses with a computed retry time', async () => {
    const harness = new EngineHarness(
      {},
      { maxRunning: 1, maxWaiting: 6, maxWaitingPerTenant: 4, maxWaitingTokens: 1_000 },
    );
    const { engine } = harness;
    const several = (name: string, count: number, tenant = 'a') =>
      Array.from({ length: count }, (_, i) =>
        request(`${name}/${i}`, prompt(10), { tenant, choice: i, maxTokens: 10 }),
      );
    expect(engine.submitAll(several('one', 3))).toBeNull();
    const refused = engine.submitAll(several('two', 2));
    expect(refused).toMatchObject({ code: 'overloaded', message: expect.stringContaining('this tenant') });
    expect(refused!.retryAfterMs).toBeGreaterThan(0);
    expect(engine.status().waiting).toBe(3);
    expect(engine.submitAll(several('three', 3, 'b'))).toBeNull();
    expect(engine.submitAll(several('four', 1, 'c'))).toMatchObject({ code: 'overloaded' });
    await harness.finish();
    // With a known speed the time grows with the work that has to leave first.
    engine.submitAll(several('five', 4));
    const [near, far] = [1, 4].map((count) => engine.submitAll(several('six', count))!.retryAfterMs!);
    expect(far).toBeGreaterThanOrEqual(near!);
    expect([...harness.told.keys()].some((id) => id.startsWith('two') || id.startsWith('four'))).toBe(false);
  });

  it('bounds the tokens that wait, too, but never refuses one request to an empty queue', () => {
    const { engine } = new EngineHarness({}, { maxWaitingTokens: 100, maxWaitingTokensPerTenant: 50 });
    expect(engine.submit(request('big', prompt(200)))).toBeNull();
    expect(engine.submit(request('small', prompt(2)))).toMatchObject({ code: 'overloaded' });
    expect(engine.submit(request('other', prompt(2), { tenant: 'b' }))).toMatchObject({ code: 'overloaded' });
  });

  it('throws for what the caller should have checked, and takes nothing of it', () => {
    const { engine } = new EngineHarness();
    engine.submit(request('r', [1]));
    for (const bad of [
      request('r', [1]),
      request('x', []),
      request('x', [64]),
      request('x', [-1]),
      request('x', [1], { weight: 0 }),
      request('x', [1], { sampling: { ...GREEDY, seed: '-1' } }),
    ])
      expect(() => engine.submit(bad)).toThrow();
    expect(() => engine.submitAll([request('y', [1]), request('y', [1])])).toThrow();
    expect(() => engine.submitAll([request('y', [1]), request('z', [1], { tenant: 'b' })])).toThrow();
    expect(engine.status().waiting).toBe(1);
    engine.checkInvariants();
  });

  it('cancels at once, waiting or running, and between a step’s start and its end', async () => {
    let during = () => {};
    const harness = new EngineHarness({ during: () => during() }, { maxRunning: 2 });
    const { engine } = harness;
    for (const id of ['x', 'y', 'z']) engine.submit(request(id, prompt(30, id.charCodeAt(0)), { maxTokens: 50 }));
    await engine.step();
    expect(engine.cancel('z')).toBe(true);
    expect(engine.cancel('z')).toBe(false);
    expect(engine.cancel('x')).toBe(true);
    engine.checkInvariants();
    expect(engine.status()).toMatchObject({ running: 1, waiting: 0 });
    during = () => {
      during = () => {};
      engine.cancel('y');
      engine.submit(request('w', prompt(30, 9)));
    };
    await engine.step();
    engine.checkInvariants();
    for (const id of ['x', 'y', 'z']) expect(harness.of(id).end).toBe('cancelled');
    expect(harness.of('y').ids).toHaveLength(1);
    await harness.finish();
    expect(harness.of('w').ids).toEqual((await solo(request('w', prompt(30, 9)))).ids);
    const { blocksFree, blocksCached, blocksTotal } = engine.status();
    expect(blocksFree + blocksCached).toBe(blocksTotal);
  });

  it('ends by the deadline, waiting or running', async () => {
    const harness = new EngineHarness({}, { maxRunning: 1 });
    harness.engine.submit(request('runs', prompt(5), { maxTokens: 100, deadlineMs: 10 }));
    await harness.engine.step();
    harness.nowMs += 1;
    harness.engine.submit(request('waits', prompt(5, 2), { maxTokens: 100, deadlineMs: 5 }));
    await harness.finish();
    expect(harness.of('waits')).toMatchObject({ end: 'deadline', ids: [] });
    expect(harness.of('runs').end).toBe('deadline');
    expect(harness.of('runs').ids).toHaveLength(10);
  });

  it('a sequence whose logits are not finite fails alone, and leaves nothing in the cache', async () => {
    let sick = true;
    const harness = new EngineHarness({
      maxStepTokens: 16,
      alter: (row, { tokens }) => {
        if (sick && tokens.includes(63)) row[5] = Number.NaN;
      },
    });
    const bad = [...prompt(40).map((token) => token % 60), 63];
    harness.engine.submit(request('bad', bad));
    const healthy = prompt(20, 2).map((token) => token % 60);
    harness.engine.submit(request('good', healthy, { sampling: { ...GREEDY, logitBias: [[63, -100]] } }));
    await harness.finish();
    harness.engine.submit(request('scored', bad, { promptLogprobs: 0, maxTokens: 0 }));
    await harness.finish();
    expect(harness.of('bad')).toMatchObject({ end: 'failed', ids: [] });
    expect(harness.of('good').end).toBe('length');
    expect(harness.of('scored').end).toBe('failed');
    harness.engine.checkInvariants();
    sick = false;
    harness.engine.submit(request('again', bad));
    await harness.finish();
    // Its first two blocks had been published before the row came that was not finite.
    expect(harness.of('again').cachedTokens).toBe(0);
    expect(harness.of('again').ids).toEqual((await solo(request('again', bad))).ids);
  });

  it('when the runner fails, all end as lost, the owner is told once, and no more is taken', async () => {
    let steps = 0;
    const harness = new EngineHarness(
      {
        during: () => {
          if (++steps === 3) throw new Error('device lost');
        },
      },
      { maxRunning: 1 },
    );
    harness.engine.submit(request('one', prompt(5), { maxTokens: 50 }));
    harness.engine.submit(request('two', prompt(5, 2), { maxTokens: 50 }));
    await harness.engine.run();
    expect(harness.fatal).toMatchObject({ message: 'device lost' });
    expect(harness.of('one')).toMatchObject({ end: 'lost' });
    expect(harness.of('one').ids).toHaveLength(2);
    expect(harness.of('two')).toMatchObject({ end: 'lost', ids: [] });
    expect(harness.engine.submit(request('three', [1]))).toMatchObject({ code: 'overloaded' });
    expect(steps).toBe(3);
    harness.engine.checkInvariants();
  });

  it('runs: sleeps when idle, wakes for a request, lets events in between steps, drains', async () => {
    const outputs: SequenceOutput[] = [];
    let steps = 0;
    const runner = new PagedRunner({
      during: () => {
        steps += 1;
      },
    });
    const engine = new Engine({
      runner,
      clock: () => performance.now(),
      onOutputs: (batch) => outputs.push(...batch),
      onFatal: (error) => {
        throw error;
      },
    });
    const running = engine.run();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(steps).toBe(0);
    engine.submit(request('one', prompt(5), { maxTokens: 400 }));
    engine.submit(request('two', prompt(5, 2), { maxTokens: 20 }));
    await new Promise((resolve) => setTimeout(resolve, 1));
    // The timer came through although the runner never leaves the microtask queue: the 400 tokens are not done.
    expect(engine.cancel('one')).toBe(true);
    const drained = engine.drain();
    expect(engine.submit(request('late', [1]))).toMatchObject({ code: 'overloaded' });
    await drained;
    await running;
    const ends = outputs.filter(({ end }) => end).map(({ id, end }) => [id, end]);
    expect(Object.fromEntries(ends)).toEqual({ one: 'cancelled', two: 'length' });
  });

  it('stops: cancels what runs and waits, and the loop ends', async () => {
    const harness = new EngineHarness({}, { maxRunning: 1 });
    const running = harness.engine.run();
    harness.engine.submit(request('one', prompt(5), { maxTokens: 500 }));
    harness.engine.submit(request('two', prompt(5, 2), { maxTokens: 500 }));
    await new Promise((resolve) => setTimeout(resolve, 2));
    await harness.engine.stop();
    await running;
    expect(harness.of('one').end).toBe('cancelled');
    expect(harness.of('two').end).toBe('cancelled');
    expect(harness.engine.status()).toMatchObject({ running: 0, waiting: 0 });
  });

  it.each([1, 2])('counts what it did, a prompt of many steps once, with %i steps in flight', async (stepsInFlight) => {
    const harness = new EngineHarness({ stepsInFlight, maxStepTokens: 16 });
    harness.engine.submit(request('one', prompt(40), { maxTokens: 3 }));
    await harness.finish();
    harness.engine.submit(request('two', prompt(60), { maxTokens: 3 }));
    await harness.finish();
    // The first in steps of 16, 16, 8 and two decodes; 20 more positions of the second in two, and two decodes.
    expect(harness.engine.status()).toMatchObject({
      promptTokens: 100,
      cachedTokens: 40,
      outputTokens: 6,
      steps: 9,
      preemptions: 0,
      waitingTokens: 0,
    });
  });
});
