// A stream takes from the pool what its client takes, no more, and lets go of the pool when the client lets go of it.
import { expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import type { Bill } from '../ledger/bill.ts';
import { jsonLog } from '../log.ts';
import { streamedAnswer } from './answer.ts';
import { chatShaper } from './chatShape.ts';
import type { RelayEvent } from './relay.ts';
import { respondStreaming } from './respond.ts';

const usage = { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 0 };
const bill: Bill = { inputTokens: 1, cachedInputTokens: 0, outputTokens: 9, outcome: 'completed' };

function rig(tokens: number, options: { beforeToken?: () => Promise<void>; keepAliveMs?: number } = {}) {
  const seen = { taken: 0, ended: false, aborted: 0, finished: 0 };
  async function* events(): AsyncGenerator<RelayEvent[], void, void> {
    try {
      yield [{ type: 'prompt', prompts: [[1]], prompt_tokens: 1 }];
      for (let position = 0; position < tokens; position++) {
        seen.taken += 1;
        await options.beforeToken?.();
        yield [{ type: 'delta', choice: 0, position, ids: [1], text: 'x', usage }];
      }
      const receipt = {
        request_id: 'r',
        pool_id: 'p',
        tenant: 't',
        model: 'm',
        prompt_tokens: 1,
        cached_tokens: 0,
        choices: [9],
      };
      const done = {
        type: 'done',
        usage,
        receipt: { ...receipt, outcome: 'completed', started_at_ms: 0, updated_at_ms: 0 },
      } as const;
      yield [{ type: 'end', done, bill }];
    } finally {
      seen.ended = true;
    }
  }
  const head = { id: 'c', created: 0, model: 'm', system_fingerprint: 'f' };
  const response = respondStreaming(events(), streamedAnswer(chatShaper(head, 1), false), {
    ...{
      requestId: 'r',
      headers: () => ({}),
      log: jsonLog(
        () => {},
        () => 0,
      ),
    },
    clock: systemClock,
    keepAliveMs: options.keepAliveMs ?? 60_000,
    abort: () => {
      seen.aborted += 1;
    },
    finished: () => {
      seen.finished += 1;
    },
  });
  return { response, seen };
}

test('a client that does not read holds the pool back', async () => {
  const { response, seen } = rig(1000);
  const reader = (await response).body?.getReader();
  for (let reads = 0; reads < 6; reads++) await reader?.read();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(seen.taken).toBe(5);
  await reader?.cancel();
  expect(seen).toEqual({ taken: 5, ended: true, aborted: 1, finished: 1 });
});

test('a stream that is read to its end finishes once and aborts nothing', async () => {
  const { response, seen } = rig(3);
  const text = await (await response).text();
  expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  expect(seen).toEqual({ taken: 3, ended: true, aborted: 0, finished: 1 });
});

test('a stream that is silent for long says so by comments, and loses nothing', async () => {
  const beforeToken = () => systemClock.sleep(120);
  const { response, seen } = rig(2, { beforeToken, keepAliveMs: 20 });
  const text = await (await response).text();
  expect(text.match(/: keep-alive\n\n/g)?.length).toBeGreaterThan(2);
  const events = text.split('\n\n').filter((event) => event.startsWith('data: '));
  expect(
    events.map((event) => (event === 'data: [DONE]' ? null : JSON.parse(event.slice(6)).choices[0].delta)),
  ).toEqual([{ role: 'assistant', content: '', refusal: null }, { content: 'x' }, { content: 'x' }, {}, null]);
  expect(seen).toMatchObject({ taken: 2, finished: 1, aborted: 0 });
});
