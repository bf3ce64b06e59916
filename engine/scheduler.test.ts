import { describe, expect, it } from 'vitest';
import { cacheOf, EngineHarness, request } from '../test/support/engineHarness.ts';
import { randomOf } from '../test/support/random.ts';
import { BlockManager } from './blockManager.ts';
import { type PlannedChunk, Scheduler } from './scheduler.ts';
import { Sequence } from './sequence.ts';

const prompt = (length: number, first: number) => Array.from({ length }, (_, i) => (first + i * 3) % 64);

/** Steps, refilling each tenant's queue before every step; output and uncached prompt tokens per tenant, by their price. */
async function serve(
  harness: EngineHarness,
  tenants: { name: string; weight: number; backlog: number; prompt: number; maxTokens: number; from?: number }[],
  steps: number,
  countFrom = 0,
): Promise<Map<string, number>> {
  const { engine } = harness;
  const open = new Map<string, string>();
  const service = new Map(tenants.map(({ name }) => [name, 0]));
  let count = 0;
  for (let step = 0; step < steps; step++) {
    for (const { name, weight, backlog, prompt: length, maxTokens, from } of tenants) {
      if (step < (from ?? 0)) continue;
      for (let own = [...open.values()].filter((other) => other === name).length; own < backlog; own++) {
        const id = `${name}-${count++}`;
        const over = { tenant: name, weight, cache: null, maxTokens };
        expect(engine.submit(request(id, prompt(length, count), over))).toBeNull();
        open.set(id, name);
      }
    }
    await engine.step();
    harness.nowMs += 1;
    for (const { id, ids, cachedTokens, end } of harness.batches.at(-1)!) {
      const tenant = tenants.find(({ name }) => name === open.get(id))!;
      const paid = cachedTokens !== undefined ? tenant.prompt - cachedTokens : 0;
      if (step >= countFrom) service.set(tenant.name, service.get(tenant.name)! + 2 * ids.length + paid);
      if (end) open.delete(id);
    }
  }
  return service;
}

describe('scheduler', () => {
  it('gives every running decode a token in each step, however long the prompts beside it', async () => {
    const harness = new EngineHarness({ maxStepTokens: 16, capacityBlocks: 128 }, { maxRunning: 6 });
    for (const id of ['d0', 'd1', 'd2']) harness.engine.submit(request(id, [1, 2, Number(id[1])], { maxTokens: 60 }));
    await harness.engine.step();
    for (const id of ['p0', 'p1', 'p2'])
      harness.engine.submit(request(id, prompt(300, Number(id[1])), { tenant: 'long', maxTokens: 1 }));
    for (let step = 0; step < 40; step++) {
      await harness.engine.step();
      const batch = harness.batches.at(-1)!;
      for (const id of ['d0', 'd1', 'd2']) expect(batch.find((output) => output.id === id)?.ids).toHaveLength(1);
      expect(harness.reports.at(-1)!.tokens).toBe(16);
    }
  });

  it('divides service between backlogged tenants by weight', async () => {
    const harness = new EngineHarness({ capacityBlocks: 256 }, { maxRunning: 4 });
    const service = await serve(
      harness,
      [
        { name: 'a', weight: 1, backlog: 12, prompt: 20, maxTokens: 8 },
        { name: 'b', weight: 2, backlog: 12, prompt: 40, maxTokens: 4 },
        { name: 'c', weight: 4, backlog: 12, prompt: 8, maxTokens: 16 },
      ],
      3_000,
    );
    const total = [...service.values()].reduce((sum, value) => sum + value, 0);
    expect(service.get('a')! / total).toBeCloseTo(1 / 7, 2);
    expect(service.get('b')! / total).toBeCloseTo(2 / 7, 2);
    expect(service.get('c')! / total).toBeCloseTo(4 / 7, 2);
  });

  it('a flooding tenant does not delay another by more than the running requests', async () => {
    const harness = new EngineHarness({ capacityBlocks: 256 }, { maxRunning: 4 });
    for (let i = 0; i < 200; i++)
      harness.engine.submit(request(`flood${i}`, prompt(20, i), { tenant: 'flood', maxTokens: 10 }));
    for (let step = 0; step < 30; step++) await harness.engine.step();
    harness.engine.submit(request('small', [1, 2, 3], { tenant: 'small', maxTokens: 2 }));
    let steps = 0;
    for (; !harness.told.get('small')?.end; steps++) await harness.engine.step();
    // One slot of the four becomes free within 10 steps, plus prompt and two tokens.
    expect(steps).toBeLessThanOrEqual(14);
    expect(harness.engine.status().waiting).toBeGreaterThan(100);
  });

  it('a tenant that was idle earns no credit: it does not shut out the others when it returns', async () => {
    const harness = new EngineHarness({ capacityBlocks: 256 }, { maxRunning: 2 });
    const busy = { name: 'busy', weight: 1, backlog: 8, prompt: 10, maxTokens: 5 };
    const late = { ...busy, name: 'late', prompt: 11, from: 1_000 };
    const service = await serve(harness, [busy, late], 1_400, 1_000);
    const ratio = service.get('late')! / (service.get('late')! + service.get('busy')!);
    expect(Math.abs(ratio - 0.5)).toBeLessThan(0.05);
  });

  it('a short prompt of the less served tenant does not wait for a long one in progress', async () => {
    const harness = new EngineHarness({ maxStepTokens: 16 });
    harness.engine.submit(request('long', prompt(300, 1), { tenant: 'long' }));
    await harness.engine.step();
    harness.engine.submit(request('short', prompt(10, 2), { tenant: 'short' }));
    // The newcomer starts at the other's level, and what a step could give the other counts already.
    await harness.engine.step();
    expect(harness.of('short').ids).toHaveLength(1);
    // 16 tokens each step: the long one goes on beside it.
    expect(harness.reports.at(-1)!.tokens).toBe(16);
  });

  it('a prompt that is scored leaves a logits row to each sequence beside it', async () => {
    const harness = new EngineHarness({ maxStepLogits: 4 });
    harness.engine.submit(request('scored', prompt(60, 1), { promptLogprobs: 0, maxTokens: 0 }));
    for (const id of ['x', 'y']) harness.engine.submit(request(id, prompt(5, id.charCodeAt(0))));
    await harness.engine.step();
    for (const id of ['x', 'y']) expect(harness.of(id).ids).toHaveLength(1);
    expect(harness.of('scored').promptLogprobs).toHaveLength(3);
  });

  it('within a tenant higher priority goes first, then arrival', async () => {
    const harness = new EngineHarness({}, { maxRunning: 1 });
    for (const [id, priority] of [
      ['first', 0],
      ['second', 0],
      ['urgent', 5],
      ['lazy', -5],
    ] as const)
      harness.engine.submit(request(id, [priority + 10], { priority, maxTokens: 1, cache: null }));
    await harness.finish();
    const order = harness.batches.flat().filter((output) => output.end);
    expect(order.map(({ id }) => id)).toEqual(['urgent', 'first', 'second', 'lazy']);
  });

  it('n choices compute their prompt once: the others wait for the first and hit what it publishes', async () => {
    const harness = new EngineHarness({ capacityBlocks: 64, maxStepTokens: 16 });
    const ids = prompt(100, 5);
    const choices = [0, 1, 2, 3].map((choice) => request(`r/${choice}`, ids, { choice, maxTokens: 3 }));
    expect(harness.engine.submitAll(choices)).toBeNull();
    await harness.finish();
    expect(harness.of('r/0').cachedTokens).toBe(0);
    for (const choice of [1, 2, 3]) expect(harness.of(`r/${choice}`).cachedTokens).toBe(99);
    // The prompt once, its last token for each other choice, and 2 outputs for each.
    expect(harness.runner.computed).toBe(100 + 3 + 4 * 2);
  });

  it('who waits for another’s prompt computes it himself when that one is cancelled', async () => {
    const harness = new EngineHarness({ maxStepTokens: 16 });
    const ids = prompt(100, 5);
    harness.engine.submit(request('one', ids));
    harness.engine.submit(request('two', ids));
    await harness.engine.step();
    await harness.engine.step();
    expect(harness.engine.status()).toMatchObject({ running: 1, waiting: 1 });
    harness.engine.cancel('one');
    await harness.finish();
    expect(harness.of('two')).toMatchObject({ cachedTokens: 32, end: 'length' });
  });

  it('who follows a prompt that is starved computes it himself after a bounded number of steps', () => {
    const blocks = new BlockManager(512);
    const scheduler = new Scheduler(blocks, { maxRunning: 8, maxStepTokens: 16, maxStepLogits: 8 });
    const shared = prompt(160, 3);
    expect(blocks.publicPrefixes.declare('shared', Int32Array.from(shared))).toBeNull();
    let arrivals = 0;
    const push = (id: string, ids: number[], tenant: string) => {
      const sequence = new Sequence(request(id, ids, { tenant, cache: cacheOf(tenant), maxTokens: 1 }), arrivals++);
      scheduler.push(sequence);
      return sequence;
    };
    let steps = 0;
    const step = () => {
      for (const chunk of scheduler.plan(++steps).chunks) {
        scheduler.take(chunk);
        if (chunk.draws) chunk.sequence.append(1);
        scheduler.settle(chunk, chunk.draws ? 1 : 0, true);
        if (chunk.draws) scheduler.finish(chunk.sequence);
      }
    };
    const leader = push('leader', shared, 'rich');
    step();
    for (let i = 0; i < 4; i++) push(`other${i}`, prompt(2_000, i), 'poor');
    const follower = push('follower', shared, 'third');
    // Its tenant has had so much that every step goes to others, who are never done.
    scheduler.queue.charge(leader, 0, 1e6);
    step();
    expect(follower.state).toBe('following');
    const joined = steps;
    while (follower.state !== 'ended' && steps < 1_000) step();
    // 144 tokens are missing: 4 times their 9 steps and 16 more, then at most every other step is its own.
    expect(steps - joined).toBeLessThanOrEqual(4 * 9 + 16 + 2 * 10);
    expect(leader.pending).toBeGreaterThan(100);
  });

  it('preempts the sequence with the least to recompute, and keeps its tokens', async () => {
    const harness = new EngineHarness({ capacityBlocks: 8, contextLength: 128 }, { maxRunning: 2 });
    harness.engine.submit(request('long', prompt(40, 1), { maxTokens: 60, cache: null }));
    harness.engine.submit(request('short', prompt(10, 2), { maxTokens: 60, cache: null }));
    await harness.finish();
    expect(harness.engine.status().preemptions).toBeGreaterThan(0);
    const steps = harness.batches.flatMap((batch) => batch.filter(({ ids }) => ids.length > 0).map(({ id }) => id));
    // The long one gets a token in each of its 60 steps from the first to the last, without a gap.
    const long = harness.batches.flatMap((batch, i) =>
      batch.some(({ id, ids }) => id === 'long' && ids.length > 0) ? [i] : [],
    );
    expect(long.at(-1)! - long[0]!).toBe(59);
    expect(steps.filter((id) => id === 'short')).toHaveLength(60);
  });

  it('preempts no sequence again and again, however many others compete with it', () => {
    const scheduler = new Scheduler(new BlockManager(64), { maxRunning: 16, maxStepTokens: 64, maxStepLogits: 16 });
    const counts: number[] = [];
    let arrivals = 0;
    for (let step = 0; step < 8_000; step++) {
      for (; scheduler.queue.waiting < 8; arrivals++) {
        const ids = prompt(arrivals % 6 === 0 ? 300 : 8, arrivals);
        const asked = request(`s${arrivals}`, ids, { maxTokens: 200, cache: null, tenant: `t${arrivals % 2}` });
        scheduler.push(new Sequence(asked, arrivals));
      }
      for (const chunk of scheduler.plan(step).chunks) {
        const { sequence, draws } = chunk;
        expect(scheduler.take(chunk)).toBe(true);
        if (draws) sequence.append(1);
        scheduler.settle(chunk, draws ? 1 : 0, true);
        if (sequence.outputLength < 200) continue;
        counts.push(sequence.preemptions);
        scheduler.finish(sequence);
      }
    }
    expect(counts.length).toBeGreaterThan(150);
    // Twice as the one with the least to recompute, once of these for another tenant's share; a third time only for an older one.
    expect(Math.max(...counts)).toBeLessThanOrEqual(3);
    expect(counts.filter((count) => count === 3).length).toBeLessThan(counts.length / 20);
  });

  it('admits only with room for the next block of each running sequence', async () => {
    const harness = new EngineHarness({ capacityBlocks: 5 });
    const over = { cache: null, maxTokens: 30 };
    harness.engine.submit(request('first', prompt(30, 1), over));
    await harness.engine.step();
    harness.engine.submit(request('second', prompt(40, 2), { ...over, maxTokens: 4 }));
    await harness.engine.step();
    // 2 + 3 blocks would fit, and the first would preempt two steps later.
    expect(harness.engine.status()).toMatchObject({ running: 1, waiting: 1, blocksFree: 3 });
    await harness.finish();
    expect(harness.engine.status().preemptions).toBe(0);
  });

  it('charges no prompt token that was cancelled before it was computed, and a tenth of what the cache answered', () => {
    const compute = (scheduler: Scheduler, chunk: PlannedChunk) => {
      expect(scheduler.take(chunk)).toBe(true);
      scheduler.settle(chunk, 0, true);
    };
    const scheduler = new Scheduler(new BlockManager(64), { maxRunning: 1, maxStepTokens: 16, maxStepLogits: 8 });
    const [long, own, other] = [
      new Sequence(request('long', prompt(200, 1)), 0),
      new Sequence(request('own', [1]), 1),
      new Sequence(request('other', [2], { tenant: 'b' }), 2),
    ];
    scheduler.push(long);
    compute(scheduler, scheduler.plan(0).chunks[0]!);
    scheduler.finish(long);
    for (const sequence of [own, other]) scheduler.push(sequence);
    scheduler.queue.charge(other, 0, 10);
    // 16 against 20: were the other 184 still owed, `other` would go first.
    expect(scheduler.queue.served('a')).toBe(16);
    expect(scheduler.plan(1).chunks[0]!.sequence).toBe(own);

    const caching = new Scheduler(new BlockManager(64), { maxRunning: 4, maxStepTokens: 64, maxStepLogits: 8 });
    for (const arrival of [0, 1]) {
      const sequence = new Sequence(request(`c${arrival}`, prompt(40, 1)), arrival);
      caching.push(sequence);
      compute(caching, caching.plan(arrival).chunks[0]!);
      caching.finish(sequence);
    }
    const third = new Sequence(request('c2', prompt(40, 1)), 2);
    caching.push(third);
    caching.plan(2);
    expect(caching.queue.served('a')).toBeCloseTo(40 + 8 + 2 * 3.2, 9);
    expect(third.unpaid).toBe(8);
  });

  it('comes to an end with many sequences that cannot all fit, each preempted a bounded number of times', async () => {
    const harness = new EngineHarness({ capacityBlocks: 10, contextLength: 160 }, { maxRunning: 8 });
    for (let i = 0; i < 40; i++)
      harness.engine.submit(
        request(`s${i}`, prompt(5 + (i % 7), i), { maxTokens: 120, cache: null, tenant: `t${i % 3}` }),
      );
    await harness.finish();
    for (let i = 0; i < 40; i++) expect(harness.of(`s${i}`)).toMatchObject({ end: 'length' });
    expect(harness.engine.status().preemptions).toBeGreaterThan(40);
    expect(harness.engine.status().preemptions).toBeLessThan(40 * 8);
  });

  it.each([['by counters', true] as const, ['in order of arrival, as a control', false] as const])(
    'two tenants that always wait differ in service by no more than the bound when served %s',
    (_, fair) => {
      const seed = 5;
      const random = randomOf(seed);
      const shapes = [
        { tenant: 'small', weight: 1, prompt: 20, maxTokens: 10 },
        { tenant: 'large', weight: 1, prompt: 150, maxTokens: 60 },
        { tenant: 'heavy', weight: 3, prompt: 60, maxTokens: 30 },
      ];
      const limits = { maxRunning: 6, maxStepTokens: 64, maxStepLogits: 8 };
      const scheduler = new Scheduler(new BlockManager(256), limits);
      const service = new Map(shapes.map(({ tenant }) => [tenant, 0]));
      const waiting = new Map(shapes.map(({ tenant }) => [tenant, 0]));
      let arrivals = 0;
      let widest = 0;
      for (let step = 0; step < 6_000; step++) {
        for (const { tenant, weight, prompt: length, maxTokens } of shapes)
          while (waiting.get(tenant)! < 8) {
            const over = { tenant: fair ? tenant : 'all', weight: fair ? weight : 1, cache: null };
            const ids = prompt(1 + Math.floor(random() * length), arrivals);
            const most = { maxTokens: 1 + Math.floor(random() * maxTokens) };
            scheduler.push(new Sequence(request(`${tenant}/${arrivals}`, ids, { ...over, ...most }), arrivals++));
            waiting.set(tenant, waiting.get(tenant)! + 1);
          }
        for (const chunk of scheduler.plan(step).chunks) {
          const { sequence, draws } = chunk;
          const tenant = sequence.request.id.split('/')[0]!;
          if (chunk.start === 0) waiting.set(tenant, waiting.get(tenant)! - 1);
          const unpaid = sequence.unpaid;
          expect(scheduler.take(chunk)).toBe(true);
          if (draws) sequence.append(1);
          scheduler.settle(chunk, draws ? 1 : 0, true);
          const { weight } = shapes.find((shape) => shape.tenant === tenant)!;
          const cost = unpaid - sequence.unpaid + (draws ? 2 : 0);
          service.set(tenant, service.get(tenant)! + cost / weight);
          if (sequence.outputLength === sequence.request.maxTokens) scheduler.finish(sequence);
        }
        const got = [...service.values()];
        widest = Math.max(widest, Math.max(...got) - Math.min(...got));
      }
      // What one tenant can get between two admissions: all slots, each with its longest request.
      const most = Math.max(...shapes.map(({ prompt: p, maxTokens, weight }) => (6 * (p + 2 * maxTokens)) / weight));
      const credit = 4 * limits.maxStepTokens;
      const total = Math.min(...service.values());
      const figures = JSON.stringify({ seed, widest, bound: 2 * most + credit, service: [...service] });
      if (fair) {
        expect(widest, figures).toBeLessThanOrEqual(2 * most + credit);
        expect(total, figures).toBeGreaterThan(5 * (2 * most + credit));
      } else expect(widest, figures).toBeGreaterThan(4 * (2 * most + credit));
    },
  );

  it('a chunk planned before a preemption is void after it, also when the sequence runs again', () => {
    const scheduler = new Scheduler(new BlockManager(4), { maxRunning: 2, maxStepTokens: 64, maxStepLogits: 8 });
    const old = new Sequence(request('old', prompt(31, 1), { maxTokens: 20, cache: null }), 0);
    const young = new Sequence(request('young', prompt(15, 2), { maxTokens: 20, cache: null }), 1);
    for (const each of [old, young]) scheduler.push(each);
    const plans = [scheduler.plan(0)];
    // Planned ahead, with nothing of the first taken: position 33 of the one and 17 of the other need blocks, and there is one.
    for (let step = 1; young.preemptions === 0; step++) plans.push(scheduler.plan(step));
    expect(young.state).toBe('preempted');
    scheduler.checkInvariants();
    const early = plans[0]!.chunks.find(({ sequence }) => sequence === young)!;
    expect(scheduler.take(early)).toBe(false);
    scheduler.finish(old);
    const again = scheduler.plan(9).chunks[0]!;
    expect([again.sequence, again.start, again.count]).toEqual([young, 0, 15]);
    expect(scheduler.take(early)).toBe(false);
    expect(scheduler.take(again)).toBe(true);
    expect([young.computed, young.drawn]).toEqual([15, 0]);
  });

  it('plans ahead for what is sure to go on: never beyond max_tokens, with the drawn tokens in place', () => {
    const scheduler = new Scheduler(new BlockManager(16), { maxRunning: 2, maxStepTokens: 64, maxStepLogits: 8 });
    const sequence = new Sequence(request('r', prompt(20, 1), { maxTokens: 3 }), 0);
    scheduler.push(sequence);
    const chunks = [0, 1, 2, 3].map((step) => scheduler.plan(step).chunks);
    expect(chunks.map((each) => each.map(({ start, count, draws }) => [start, count, draws]))).toEqual([
      [[0, 20, true]],
      [[20, 1, true]],
      [[21, 1, true]],
      [],
    ]);
    expect(sequence.expectedLength).toBe(23);
    for (const [chunk] of chunks.slice(0, 3)) {
      expect(scheduler.take(chunk!)).toBe(true);
      sequence.append(1);
    }
    expect([sequence.computed, sequence.drawn, sequence.length]).toEqual([22, 0, 23]);
    scheduler.checkInvariants();
  });

  it('who is cancelled or out of time among a thousand is gone within one step', async () => {
    const harness = new EngineHarness({}, { maxRunning: 4, maxWaiting: 2_000, maxWaitingPerTenant: 2_000 });
    for (let i = 0; i < 1_000; i++) {
      const deadlineMs = i % 10 === 3 ? 5 : 1e6;
      const over = { tenant: `t${i % 7}`, maxTokens: 50, deadlineMs };
      expect(harness.engine.submit(request(`q${i}`, prompt(20, i), over))).toBeNull();
    }
    await harness.engine.step();
    harness.nowMs = 5;
    for (let i = 500; i < 600; i++) expect(harness.engine.cancel(`q${i}`)).toBe(true);
    await harness.engine.step();
    harness.engine.checkInvariants();
    const { running, waiting } = harness.engine.status();
    expect(running + waiting).toBe(1_000 - 100 - 90);
    for (let i = 0; i < 1_000; i++) {
      const gone = i >= 500 && i < 600 ? 'cancelled' : i % 10 === 3 ? 'deadline' : null;
      if (gone) expect(harness.of(`q${i}`).end).toBe(gone);
    }
  });
});
