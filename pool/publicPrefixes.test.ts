// What a pool makes of the operator's declarations: the ids that every prompt with that beginning has, each set in place of the last.
import { describe, expect, it } from 'vitest';
import { PublicPrefixes as EngineSide } from '../engine/publicPrefixes.ts';
import { byteText } from '../test/support/byteText.ts';
import { prefixTokens } from './prefixTokens.ts';
import { chatPrompt, completionPrompts } from './prompt.ts';
import { type EnginePrefixes, PublicPrefixes } from './publicPrefixes.ts';
import { declare } from './servedEngine.ts';
import { poolModel } from './servedModel.ts';
import type { PrefixSet, PublicPrefix } from './wire/publicPrefixes.ts';

const warm = {
  engine: 'bytes',
  vocabSize: 260,
  contextLength: 100,
  capacityBlocks: 10,
  fingerprint: 'f',
  adapter: 'a',
};
const MODEL = poolModel(byteText(), { id: 'bytes', ...warm }, 0);
const TEXT = 'sixteen letters!';

const system = { role: 'system' as const, content: 'You are a helpful assistant.' };
const refusal = (over: Omit<PublicPrefix, 'id' | 'model'>) => {
  try {
    return prefixTokens(MODEL, { model: 'bytes', ...over }).length;
  } catch (error) {
    return error instanceof Error ? error.message : error;
  }
};

describe('the tokens of a prefix', () => {
  it('are what all completions with that beginning start with', () => {
    const ids = prefixTokens(MODEL, { model: 'bytes', text: TEXT });
    expect(ids).toEqual([...Buffer.from(TEXT)]);
    for (const prompt of completionPrompts(MODEL, [`${TEXT} and on`, `${TEXT}!`]))
      expect(prompt.slice(0, ids.length)).toEqual(ids);
  });

  it('are what all chats with these first messages start with, up to where they differ', () => {
    const ids = prefixTokens(MODEL, { model: 'bytes', messages: [system] });
    for (const content of ['Hello', '?', '']) {
      const chat = chatPrompt(MODEL, [system, { role: 'user', content }]);
      expect(chat.slice(0, ids.length)).toEqual(ids);
    }
    expect(ids.length).toBeGreaterThan(system.content.length);
    expect(chatPrompt(MODEL, [{ ...system, content: 'Another' }]).slice(0, ids.length)).not.toEqual(ids);
  });

  it('leave out what a tokeniser merges with the next character', () => {
    const merging = { ...byteText(), encode: (text: string) => [...Buffer.from(text.replace(/!a/g, '\u0001'))] };
    const model = { ...MODEL, text: merging };
    expect(prefixTokens(model, { model: 'bytes', text: `${TEXT}!` })).toHaveLength(16);
  });

  it('are at least a block, within context and vocabulary', () => {
    expect(refusal({ text: 'fifteen letters' })).toMatch(/15 tokens in common/);
    expect(refusal({ token_ids: Array(100).fill(7) })).toMatch(/context only 100/);
    expect(refusal({ token_ids: Array(20).fill(260) })).toMatch(/not in the vocabulary/);
    expect(refusal({ messages: [{ role: 'system', content: 'REFUSE' }] })).toMatch(/alternate/);
    expect(refusal({ token_ids: Array(99).fill(7) })).toBe(99);
  });
});

describe('a set', () => {
  function prefixes() {
    const told: [string, EnginePrefixes][] = [];
    let renders = 0;
    const registry = new PublicPrefixes({
      model: (id) => {
        renders += 1;
        return id === 'bytes' ? MODEL : undefined;
      },
      declare: (model, declared) => told.push([model, declared]),
      pause: async () => {},
    });
    return { registry, told, renders: () => renders };
  }
  const setOf = (...list: PublicPrefix[]): PrefixSet => ({
    seal: 'ab'.repeat(32),
    prefixes: list,
  });
  const good: PublicPrefix = { id: 'good', model: 'bytes', text: TEXT };

  it('tells the engine ids and cache, and reports what can’t be shared', async () => {
    const { registry, told } = prefixes();
    expect(registry.digest).toBeNull();
    const short = { id: 'short', model: 'bytes', text: 'a' };
    const foreign = { id: 'foreign', model: 'other', text: TEXT };
    const { digest, prefixes: reports } = await registry.replace(setOf(good, short, foreign));
    expect(reports).toMatchObject([
      { id: 'good', state: 'declared', tokens: 16 },
      { id: 'short', state: 'refused', tokens: 0, reason: expect.stringMatching(/1 tokens/) },
      { id: 'foreign', state: 'refused', reason: expect.stringMatching(/not served/) },
    ]);
    expect(registry.digest).toBe(digest);
    expect(told).toEqual([
      [
        'bytes',
        {
          sealKey: new Uint8Array(32).fill(0xab),
          prefixes: [{ id: 'good', tokens: Int32Array.from(Buffer.from(TEXT)) }],
        },
      ],
    ]);
  });

  it('takes the place of the one before, also where it is empty', async () => {
    const { registry, told } = prefixes();
    const first = await registry.replace(setOf(good));
    const second = await registry.replace(setOf());
    expect(second.digest).not.toBe(first.digest);
    expect(told[0]?.[1].prefixes).toHaveLength(1);
    expect(told.at(-1)?.[1].prefixes).toHaveLength(0);
  });

  it('may move the most there may be from one model of an engine to another', async () => {
    const shared = new EngineSide();
    const served = { publicPrefixes: shared, declared: new Map<string, ReadonlySet<string>>() };
    const registry = new PublicPrefixes({
      model: () => MODEL,
      declare: (model, prefixes) => declare(served, { model, ...prefixes }),
      pause: async () => {},
    });
    const many = (model: string, count: number, from = 0): PublicPrefix[] =>
      Array.from({ length: count }, (_, i) => ({
        ...{
          id: `${model} ${from + i}`,
          model,
          token_ids: Array<number>(16)
            .fill(0)
            .fill(from + i, 15),
        },
      }));
    await registry.replace(setOf(...many('a', 1), ...many('b', 200)));
    const { prefixes } = await registry.replace(setOf(...many('a', 200), ...many('b', 56, 200)));
    expect(prefixes.every(({ state }) => state === 'declared')).toBe(true);
    expect(shared.size).toBe(256);
  });

  it('is not rendered again where it is the same', async () => {
    const { registry, renders } = prefixes();
    await registry.replace(setOf(good));
    const before = renders();
    await registry.replace(setOf({ ...good, id: 'renamed' }));
    expect(renders() - before).toBe(2); // to tell the engine what goes and what comes, not to render
  });
});
