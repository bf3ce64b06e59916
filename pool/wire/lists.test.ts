// The bounds of a request's lists hold for the time and memory of checking them, too: whatever fits a body is refused at once.
import { performance } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { chatRequest, completionRequest, poolCompletionRequest } from './inference.ts';
import { listOf, mapOf, tokenIds } from './lists.ts';

const issuesOf = (schema: z.ZodType, value: unknown) =>
  schema.safeParse(value).error?.issues.map(({ path, code }) => [path.join('.'), code]) ?? [];

test('a list is refused at its first wrong entry, named by its place', () => {
  const list = listOf(z.strictObject({ name: z.string() }), { min: 1, max: 3 });
  expect(list.parse([{ name: 'a' }, { name: 'b' }])).toEqual([{ name: 'a' }, { name: 'b' }]);
  expect(issuesOf(list, [{ name: 'a' }, { name: 1 }, { name: 2 }])).toEqual([['1.name', 'invalid_type']]);
  expect(issuesOf(list, [])).toEqual([['', 'too_small']]);
  expect(issuesOf(list, [0, 0, 0, 0])).toEqual([['', 'too_big']]);
  expect(issuesOf(z.object({ list }), { list: [{}] })).toEqual([['list.0.name', 'invalid_type']]);
});

test('a map is refused by its number of entries before any is looked at', () => {
  const map = mapOf(z.string().regex(/^\d$/), z.number(), 2);
  expect(map.parse({ 1: 0.5, 2: -1 })).toEqual({ 1: 0.5, 2: -1 });
  expect(issuesOf(map, { a: '', b: '', c: '' })).toEqual([['', 'custom']]);
  expect(issuesOf(map, { 1: 'x' })).toEqual([['1', 'invalid_type']]);
  for (const other of [null, [], 'ab', 5]) expect(map.safeParse(other).success).toBe(false);
});

test.each([[[-1]], [[1.5]], [['1']], [[null]], [[2 ** 53]], [[]], ['text']])('%j is no list of token ids', (value) => {
  expect(tokenIds.safeParse(value).success).toBe(false);
  expect(tokenIds.parse([0, 49_151])).toEqual([0, 49_151]);
});

describe('what fits a body of 8 MiB is refused with few issues, within a second', () => {
  const many = (count: number, entry: unknown) => Array.from({ length: count }, () => entry);
  const completion = (prompt: unknown) => [completionRequest, { model: 'm', prompt }] as const;
  const resume = (over: object) => [poolCompletionRequest, { model: 'm', prompt: '', resume: over }] as const;
  const chat = (messages: unknown) => [chatRequest, { model: 'm', messages }] as const;
  test.each([
    ['empty prompts', completion(many(2_600_000, ''))],
    ['prompts that are empty lists', completion(many(2_600_000, []))],
    ['prompts full of text', completion(many(128, many(20_000, '')))],
    ['ids of which the last is wrong', completion([...many(4_000_000, 1), -1])],
    ['messages', chat(many(2_600_000, ''))],
    ['text parts', chat(many(2048, { role: 'user', content: many(1200, '') }))],
    ['choices to go on with', resume({ choices: many(2_600_000, {}) })],
    ['their ids', resume({ choices: many(128, { ids: many(30_000, ''), finish_reason: null }) })],
    ['prompts as they were told', resume({ prompts: many(2_600_000, []) })],
    ['how much of them was told', resume({ prompt_logprobs: many(4_000_000, -1) })],
    ['stop strings', [completionRequest, { model: 'm', prompt: '', stop: many(2_600_000, '') }] as const],
  ])('%s', (_, [schema, value]) => {
    const began = performance.now();
    const issues = schema.safeParse(value).error?.issues ?? [];
    expect(performance.now() - began).toBeLessThan(1000);
    expect(issues.length).toBeGreaterThan(0);
    expect(JSON.stringify(issues).length).toBeLessThan(4000);
  });
});
