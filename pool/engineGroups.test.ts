// Models of one file share an engine, others the memory for KV: told by real processes over the simulated runner.
import { afterEach, describe, expect, it } from 'vitest';
import { type PagedPool, type PagedPoolOptions, startPagedPool } from '../test/support/pagedPool.ts';
import { askPool, collect, inferenceContext, ofType } from '../test/support/signedPoolClient.ts';
import { poolSection } from './config.ts';
import { contextLengthOf, engineModels } from './engineGroups.ts';
import { poolStatus } from './wire/events.ts';

const pools: PagedPool[] = [];
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close();
});

async function start(options: PagedPoolOptions): Promise<PagedPool> {
  const pool = await startPagedPool(options);
  pools.push(pool);
  return pool;
}

const PROMPT = 'a prompt of more than two blocks, which is shared';

async function complete(pool: PagedPool, model: string, over: object = {}) {
  const body = { model, prompt: PROMPT, seed: 1, max_tokens: 4, ...over };
  const context = { ...inferenceContext(), cacheScope: 'scope-a' };
  const answer = await askPool(pool.address, { path: '/v1/completions', body, context });
  const events = await collect(answer);
  return {
    status: answer.status,
    cached: ofType(events, 'done')[0]?.receipt.cached_tokens,
    ids: ofType(events, 'delta').flatMap(({ ids }) => ids),
  };
}

describe('grouping', () => {
  const grouped = (models: object[]) =>
    engineModels(poolSection.shape.models.parse(models)).map(({ served }) => served.map(({ id }) => id));

  it('puts together what has one file and equal settings, and nothing else', () => {
    const at = (id: string, over: object = {}) => ({ id, path: '/x', ...over });
    expect(grouped([at('a'), at('b', { path: '/y' }), at('c')])).toEqual([['a', 'c'], ['b']]);
    expect(
      grouped([at('a'), at('b', { activations: 'f32' }), at('c', { kvBlocks: 5 }), at('d', { kvFormat: 'int8' })]),
    ).toEqual([['a'], ['b'], ['c'], ['d']]);
  });

  it('opens the longest context that any of them may need', () => {
    const of = (...lengths: (number | undefined)[]) => {
      const models = lengths.map((contextLength, i) => ({
        ...{ id: `m${i}`, path: '/x' },
        ...(contextLength !== undefined && { contextLength }),
      }));
      const [group] = engineModels(poolSection.shape.models.parse(models));
      return group && contextLengthOf(group);
    };
    expect(of(100, 300, 200)).toBe(300);
    expect(of(100, undefined)).toBeUndefined();
  });
});

describe('two names of one file', () => {
  it('share arena, index and steps; each keeps its own context length', async () => {
    const models = [
      { id: 'long', kvBlocks: 64 },
      { id: 'short', kvBlocks: 64, contextLength: 64 },
    ];
    const pool = await start({ models });
    const first = await complete(pool, 'long');
    const second = await complete(pool, 'short');
    expect(first).toMatchObject({ status: 200, cached: 0 });
    expect(second).toMatchObject({ status: 200, cached: 48, ids: first.ids });
    const status = poolStatus.parse((await askPool(pool.address, { method: 'GET', path: '/pool/status' })).json);
    expect(status.blocks_total).toBe(64);
    expect(status.models.map(({ id, context_length }) => [id, context_length])).toEqual([
      ['long', 512],
      ['short', 64],
    ]);
    expect((await complete(pool, 'long', { max_tokens: 60 })).status).toBe(200);
    expect((await complete(pool, 'short', { max_tokens: 60 })).status).toBe(400);
  });
});

describe('models of different files', () => {
  const two = [
    { id: 'small', file: { blockBytes: 1000 } },
    { id: 'big', file: { blockBytes: 4000 }, kvWeight: 3 },
  ];

  it('divide the budget by weight, and cache apart from each other', async () => {
    const pool = await start({ models: two, section: { kvBytes: 160_000 } });
    const text = await (await fetch(`${pool.address.url}/metrics`)).text();
    expect(text).toContain('hearth_pool_blocks_total{model="small"} 40\n');
    expect(text).toContain('hearth_pool_blocks_total{model="big"} 30\n');
    await complete(pool, 'small');
    expect((await complete(pool, 'big')).cached).toBe(0);
  });

  it('that need more than the budget don’t start, and the error names the fields', async () => {
    const models = two.map((model) => ({ ...model, kvBlocks: 100 }));
    await expect(start({ models, section: { kvBytes: 160_000 } })).rejects.toThrow(
      /kvBlocks of small, big need 500000 bytes.*pool\.kvBytes/,
    );
  });
});
