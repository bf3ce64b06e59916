// Text completions at their borders: a choice that is ahead of its prompt's scores, half characters, tokens that share a text.
import { expect, test } from 'vitest';
import type { PoolEvent, TokenLogprob } from '../../pool/wire/events.ts';
import { type CompletionShapeOptions, completionCollector, completionShaper } from './completionShape.ts';
import { TextOffsets } from './textOffsets.ts';

const head = { id: 'cmpl-1', created: 1, model: 'm', system_fingerprint: 'f' };
const usage = { prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0 };
const token = (
  text: string,
  logprob: number | null = -1,
  bytes = [...new TextEncoder().encode(text)],
): TokenLogprob => ({
  ...{ id: 1, token: text, bytes, logprob, top: [] },
});
const delta = (choice: number, position: number, text: string, finish?: 'stop'): PoolEvent => ({
  ...{ type: 'delta', choice, position, ids: [position], text, logprobs: [token(text)], usage },
  ...(finish && { finish_reason: finish }),
});
const receipt = {
  ...{ request_id: 'r', pool_id: 'p', tenant: 't', model: 'm', prompt_tokens: 2, cached_tokens: 0, choices: [1, 1] },
  ...{ outcome: 'completed' as const, started_at_ms: 0, updated_at_ms: 0 },
};
const done: PoolEvent = { type: 'done', usage, receipt };

interface Choice {
  index: number;
  text: string;
  finish_reason: string | null;
  logprobs: { tokens: string[]; text_offset: number[]; top_logprobs: unknown[] } | null;
}

function whole(options: CompletionShapeOptions, events: PoolEvent[]): Choice[] {
  const collector = completionCollector(head, options);
  for (const event of events) collector.add(event);
  const { choices }: { choices: Choice[] } = JSON.parse(JSON.stringify(collector.answer()));
  return choices;
}

test('what a choice says before its prompt is scored waits for the prompt, streamed or not', () => {
  const options = { prompts: ['ab'], n: 2, echo: true, logprobs: true };
  const events: PoolEvent[] = [
    { type: 'prompt', prompts: [[97, 98]], prompt_tokens: 2 },
    delta(1, 0, 'X', 'stop'),
    { type: 'prompt_logprobs', prompt: 0, tokens: [token('a', null)] },
    { type: 'prompt_logprobs', prompt: 0, tokens: [token('b')] },
    delta(0, 0, 'Y', 'stop'),
    done,
  ];
  const choices = whole(options, events);
  expect(choices.map(({ text }) => text)).toEqual(['abY', 'abX']);
  expect(choices.map(({ logprobs }) => logprobs?.tokens)).toEqual([
    ['a', 'b', 'Y'],
    ['a', 'b', 'X'],
  ]);
  expect(choices.map(({ logprobs }) => logprobs?.text_offset)).toEqual([
    [0, 1, 2],
    [0, 1, 2],
  ]);
  const shaper = completionShaper(head, options);
  const streamed = events
    .flatMap((event) => shaper.chunks(event))
    .flatMap((chunk) => ('choices' in chunk ? (chunk.choices as Choice[]) : []));
  for (const { index, text } of choices)
    expect(
      streamed
        .filter((one) => one.index === index)
        .map((one) => one.text)
        .join(''),
    ).toBe(text);
  expect(streamed.filter(({ finish_reason }) => finish_reason !== null)).toHaveLength(2);
});

test('ids are echoed as the text of their bytes, across events that cut a character', () => {
  const [euro1, euro2] = [token('\uFFFD', null, [0xe2, 0x82]), token('\uFFFD', -1, [0xac])];
  const choices = whole({ prompts: [[5, 6]], n: 1, echo: true, logprobs: true }, [
    { type: 'prompt', prompts: [[5, 6]], prompt_tokens: 2 },
    { type: 'prompt_logprobs', prompt: 0, tokens: [euro1] },
    { type: 'prompt_logprobs', prompt: 0, tokens: [euro2] },
    delta(0, 0, '!', 'stop'),
    done,
  ]);
  expect(choices[0]).toMatchObject({ text: '€!', logprobs: { text_offset: [0, 0, 1] } });
});

test('a choice with nothing to generate ends by its bound', () => {
  const choices = whole({ prompts: ['a'], n: 1, echo: false, logprobs: false }, [
    { type: 'prompt', prompts: [[97]], prompt_tokens: 1 },
    done,
  ]);
  expect(choices[0]).toMatchObject({ text: '', finish_reason: 'length', logprobs: null });
});

test('offsets count characters, and a beginning-of-sequence token that the text lacks counts nothing', () => {
  const offsets = new TextOffsets();
  expect([offsets.next(token('<s>'), false), offsets.next(token('😀'), true), offsets.next(token('a'), true)]).toEqual([
    0, 0, 1,
  ]);
  const choices = whole({ prompts: ['hi'], n: 1, echo: true, logprobs: true }, [
    { type: 'prompt', prompts: [[1, 2]], prompt_tokens: 2 },
    { type: 'prompt_logprobs', prompt: 0, tokens: [token('<s>', null), token('hi')] },
    done,
  ]);
  expect(choices[0]).toMatchObject({ text: 'hi', logprobs: { text_offset: [0, 0] } });
});
