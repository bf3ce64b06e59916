// Drafts in the engine, over the simulated runner: what they never do to others, and what ends within them.
import { describe, expect, it } from 'vitest';
import { EngineHarness, request, solo, type Told } from '../../test/support/engineHarness.ts';
import { OracleDrafter } from '../../test/support/oracleDrafter.ts';
import type { PagedRunnerOptions } from '../../test/support/pagedRunner.ts';
import { GREEDY, type SequenceRequest } from '../request.ts';

const PROMPT = [5, 9, 2, 40, 11];

/** Serves the requests together, with drafts of those who know all their answers, but for the guesses that `errs` says. */
async function speculate(
  requests: readonly SequenceRequest[],
  options: PagedRunnerOptions & {
    errs?: () => boolean;
    silent?: () => boolean;
    maxDraftTokens?: number;
    maxRunning?: number;
  } = {},
): Promise<{ harness: EngineHarness; alone: Told[] }> {
  const { errs = () => false, silent = () => false, maxDraftTokens = 6, maxRunning = 16, ...runner } = options;
  const alone = await Promise.all(requests.map((one) => solo({ ...one, eosIds: [] })));
  const texts = requests.map((one, i) => [...one.promptIds, ...alone[i]!.ids]);
  const harness = new EngineHarness(runner, { maxRunning }, () => ({
    speculation: { open: () => new OracleDrafter(texts, errs, silent), maxDraftTokens },
  }));
  for (const one of requests) expect(harness.engine.submit(one)).toBeNull();
  for (let i = 0; await harness.engine.step(); i++) {
    harness.engine.checkInvariants();
    expect(i).toBeLessThan(1000);
  }
  if (harness.fatal) throw harness.fatal;
  return { harness, alone };
}

describe('drafts', () => {
  it('that are all drawn take as many steps fewer, and end exactly at max_tokens', async () => {
    for (const maxTokens of [1, 2, 6, 7, 8, 20]) {
      const { harness, alone } = await speculate([request('a', PROMPT, { maxTokens })]);
      const told = harness.of('a');
      expect({ ids: told.ids, end: told.end }).toEqual({ ids: alone[0]!.ids, end: 'length' });
      // The first token comes with the prompt; then six drafts and one more by step.
      expect(harness.engine.status().steps).toBe(1 + Math.ceil((maxTokens - 1) / 7));
      expect(told.drafts.rejected).toBe(0);
    }
  });

  it('end at a stop token among them, accepted or drawn in place of another; what follows is not told', async () => {
    const { ids } = await solo(request('a', PROMPT, { maxTokens: 20 }));
    for (let at = 1; at < 12; at++) {
      const stop = ids[at]!;
      const first = ids.indexOf(stop);
      for (const wrongAt of [null, at]) {
        let guess = 0;
        const errs = () => wrongAt !== null && guess++ === wrongAt - 1;
        const { harness } = await speculate([request('a', PROMPT, { maxTokens: 20, eosIds: [stop] })], { errs });
        expect(harness.of('a')).toMatchObject({ ids: ids.slice(0, first + 1), end: 'stop' });
        const { draftedTokens, acceptedTokens, outputTokens } = harness.engine.status();
        expect(outputTokens).toBe(first + 1);
        expect(harness.of('a').drafts).toEqual({
          accepted: acceptedTokens,
          rejected: draftedTokens - acceptedTokens,
        });
      }
    }
  });

  it('leave the cache as without them: the next request hits as much', async () => {
    const cached = async (maxDraftTokens: number): Promise<number | null> => {
      const { ids } = await solo(request('a', PROMPT, { maxTokens: 40 }));
      const eosIds = [ids[33]!];
      const harness = new EngineHarness({}, {}, () => ({
        speculation: { open: () => new OracleDrafter([[...PROMPT, ...ids]], () => false), maxDraftTokens },
      }));
      harness.engine.submit(request('a', PROMPT, { maxTokens: 40, eosIds }));
      await harness.finish();
      harness.engine.submit(request('b', [...PROMPT, ...harness.of('a').ids, 1, 2]));
      await harness.finish();
      return harness.of('b').cachedTokens;
    };
    const plain = await cached(1);
    expect(plain).toBeGreaterThan(PROMPT.length);
    for (const most of [3, 8, 15]) expect(await cached(most)).toBe(plain);
  });

  it('preempt nobody, and take no block while somebody waits for one', async () => {
    // The first two soon need a second block, of which there are plenty; the third waits for seven at once.
    const short = (id: string, first: number): SequenceRequest =>
      request(id, [first, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], { maxTokens: 18, cache: null });
    const long = Array.from({ length: 100 }, (_, i) => (i * 5) % 64);
    const asked = [short('a', 1), short('b', 20), request('c', long, { cache: null })];
    const { harness, alone } = await speculate(asked, { capacityBlocks: 8, maxStepLogits: 32 });
    expect(harness.engine.status()).toMatchObject({ preemptions: 0 });
    expect(harness.engine.status().acceptedTokens).toBeGreaterThan(10);
    for (const [i, { id }] of asked.entries()) expect(harness.of(id).ids).toEqual(alone[i]!.ids);
    const { history } = harness.runner;
    const third = history.findIndex((step, i) => i > 0 && step.some(({ start }) => start === 0));
    expect(third).toBeGreaterThan(2);
    const ends = history
      .slice(0, third)
      .flat()
      .filter(({ rows }) => rows > 1);
    expect(ends.length).toBeGreaterThan(1);
    for (const { start, count } of ends) expect(Math.floor((start + count - 1) / 16)).toBe(Math.floor(start / 16));
  });

  it('take what prompts leave of a step, and no more', async () => {
    const long = request(
      'long',
      Array.from({ length: 100 }, (_, i) => i % 64),
      { maxTokens: 3, tenant: 'b' },
    );
    const { harness } = await speculate([request('a', PROMPT, { maxTokens: 40 }), long], { maxStepTokens: 16 });
    const mixed = harness.runner.history.filter((step) => step.length === 2 && step.some(({ rows }) => rows === 0));
    expect(mixed.length).toBeGreaterThan(3);
    for (const step of mixed) {
      expect(step.reduce((sum, { count }) => sum + count, 0)).toBe(16);
      expect(step.reduce((sum, { rows }) => sum + rows, 0)).toBe(1);
    }
  });

  it('cost their tenant nothing when they are rejected', async () => {
    const served = async (errs: () => boolean): Promise<{ served: number; computedTokens: number }> => {
      const { harness } = await speculate([request('a', PROMPT, { maxTokens: 30 })], { errs });
      const [tenant] = harness.engine.attribution().tenants;
      return { served: tenant!.served, computedTokens: tenant!.computedTokens };
    };
    let guesses = 0;
    const wrong = await served(() => guesses++ % 2 === 0);
    expect(guesses).toBeGreaterThan(20);
    expect(wrong).toEqual(await served(() => false));
  });

  it('are not planned ahead of what they hang on: with two steps in flight one is, and tokens are the same', async () => {
    let guesses = 0;
    const { harness, alone } = await speculate(
      [request('a', PROMPT, { maxTokens: 60, sampling: { ...GREEDY, temperature: 1 } })],
      {
        stepsInFlight: 2,
        errs: () => guesses++ % 5 === 4,
      },
    );
    expect(harness.of('a').ids).toEqual(alone[0]!.ids);
    expect(harness.of('a').drafts.accepted).toBeGreaterThan(30);
    expect(harness.engine.status().steps).toBeLessThan(30);
  });

  it('begin when the prompt is computed: not behind its last token while the rest is in flight', async () => {
    for (const length of [5, 9, 13]) {
      const prompt = Array.from({ length }, (_, i) => 3 * i);
      let asked = 0;
      const { harness, alone } = await speculate([request('a', prompt, { maxTokens: 20 })], {
        ...{ stepsInFlight: 2, maxStepTokens: 4 },
        silent: () => asked++ % 3 === 1,
      });
      expect(harness.of('a').ids).toEqual(alone[0]!.ids);
      expect(harness.of('a').drafts.accepted).toBeGreaterThan(5);
    }
  });

  it('cease where many run: every row is then somebody’s token', async () => {
    const asked = Array.from({ length: 8 }, (_, i) =>
      request(`r${i}`, [i, ...PROMPT], { maxTokens: 12, tenant: `t${i}` }),
    );
    const { harness } = await speculate(asked, { maxStepLogits: 8, maxStepTokens: 64 });
    expect(harness.engine.status()).toMatchObject({ draftedTokens: 0, acceptedTokens: 0 });
  });
});
