// What counts as the same beginning of a prompt, and for whom.
import { expect, test } from 'vitest';
import type { Inference } from '../relay/poolClient.ts';
import { promptPieces } from './promptPieces.ts';

const chat = (...contents: string[]): Inference => ({
  kind: 'chat',
  request: { model: 'm', messages: contents.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content })) },
});
const shared = (a: readonly string[], b: readonly string[]): number => {
  const first = a.findIndex((digest, i) => digest !== b[i]);
  return first === -1 ? a.length : first;
};

test('a conversation that goes on has the pieces that it had, and more', () => {
  const before = promptPieces(chat('x'.repeat(2000)), 'tenant');
  const after = promptPieces(chat('x'.repeat(2000), 'y'.repeat(900), 'z'.repeat(900)), 'tenant');
  expect(before).toHaveLength(3);
  expect(after.length).toBeGreaterThan(before.length);
  expect(shared(before, after)).toBe(3);
});

test('a change spoils every piece from there on, and nothing before', () => {
  const text = 'word '.repeat(1000);
  const [a, b] = [text, `${text.slice(0, 3000)}X${text.slice(3001)}`].map((each) => promptPieces(chat(each), 'tenant'));
  expect(shared(a!, b!)).toBe(5);
  expect(b!.slice(5).some((digest) => a!.includes(digest))).toBe(false);
});

test('tenants and models share nothing, and who may share nothing is not compared', () => {
  const one = promptPieces(chat('x'.repeat(2000)), 'tenant');
  expect(shared(one, promptPieces(chat('x'.repeat(2000)), 'other'))).toBe(0);
  const inference = chat('x'.repeat(2000));
  inference.request.model = 'n';
  expect(shared(one, promptPieces(inference, 'tenant'))).toBe(0);
  expect(promptPieces(chat('x'.repeat(2000)), null)).toEqual([]);
});

test('prompts of text and of token ids have pieces, the first of several', () => {
  const completion = (prompt: string | string[] | number[]): readonly string[] =>
    promptPieces({ kind: 'completion', request: { model: 'm', prompt } as never }, 'tenant');
  const ids = Array.from({ length: 400 }, (_, i) => i);
  expect(completion(ids)).toHaveLength(3);
  expect(shared(completion(ids), completion([...ids, 7, 8]))).toBe(3);
  expect(completion('t'.repeat(1100))).toHaveLength(2);
  expect(completion(['t'.repeat(1100), 'other'])).toEqual(completion('t'.repeat(1100)));
});

test('a very long prompt has no more pieces than are compared', () => {
  expect(promptPieces(chat('x'.repeat(2_000_000)), 'tenant')).toHaveLength(1024);
});
