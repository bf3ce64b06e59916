// An answer that is kept is what was sent, within its own bound and that of all answers at once; what it took it gives back.
import { expect, test } from 'vitest';
import type { PoolEvent } from '../../pool/wire/events.ts';
import { ByteBudget } from '../byteBudget.ts';
import type { Bill } from '../ledger/bill.ts';
import { KeptAnswer, MAX_KEPT_ANSWER_BYTES, streamedAnswer } from './answer.ts';
import { chatShaper } from './chatShape.ts';

const usage = { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 1 };
const bill: Bill = { inputTokens: 1, cachedInputTokens: 0, outputTokens: 1, outcome: 'completed' };
const ids = { request_id: 'r', pool_id: 'p', tenant: 't', model: 'm' };
const receipt = { ...ids, prompt_tokens: 1, cached_tokens: 0, choices: [1], started_at_ms: 0, updated_at_ms: 0 };
const done = { type: 'done', usage, receipt: { ...receipt, outcome: 'completed' } } as const;
const delta = (text: string): PoolEvent => ({ type: 'delta', choice: 0, position: 0, ids: [1], text, usage });

function kept(budget: ByteBudget): KeptAnswer {
  const head = { id: 'c', created: 0, model: 'm', system_fingerprint: 'f' };
  return new KeptAnswer(streamedAnswer(chatShaper(head, 1), true), budget.share(0, 100));
}

test('what is kept is what was sent, and its end is made once', () => {
  const budget = new ByteBudget(1e6);
  const answer = kept(budget);
  const begin = answer.add(delta('héllo 🔥'));
  const whole = answer.whole(done, bill);
  const sent = begin + answer.end(done, bill);
  expect(Buffer.from(whole ?? []).toString()).toBe(sent);
  expect(sent).toMatch(/héllo 🔥[\s\S]*\[DONE\]\n\n$/);
  expect(budget.taken).toBe(whole?.length);
  answer.release();
  answer.release();
  expect(budget.taken).toBe(0);
});

test('one too large is sent, not kept, and takes nothing from the others', () => {
  const budget = new ByteBudget(1e9);
  const answer = kept(budget);
  expect(answer.add(delta('x'.repeat(MAX_KEPT_ANSWER_BYTES))).length).toBeGreaterThan(MAX_KEPT_ANSWER_BYTES);
  expect([answer.whole(done, bill), budget.taken]).toEqual([null, 0]);
  expect(answer.end(done, bill)).toContain('[DONE]');
});

test('past the bytes of all at once the next goes without', () => {
  const budget = new ByteBudget(3000);
  const [first, second] = [kept(budget), kept(budget)];
  first.add(delta('x'.repeat(1500)));
  second.add(delta('x'.repeat(1500)));
  expect([first.whole(done, bill) === null, second.whole(done, bill) === null]).toEqual([false, true]);
  first.release();
  expect(budget.taken).toBe(0);
});
