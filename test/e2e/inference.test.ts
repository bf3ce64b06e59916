// The running system through the official client: what a tenant does all day.
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type System, startSystem } from '../support/system.ts';

let system: System;
let model: string;

beforeAll(async () => {
  system = await startSystem();
  model = (await system.client.models.list()).data[0]?.id ?? '';
}, 600_000);

afterAll(async () => {
  expect(await system.stop()).toBe(0);
});

const QUESTION = [{ role: 'user' as const, content: 'What is the capital of France? Answer in one word.' }];

describe('chat', () => {
  test('answers with a real model and true usage', async () => {
    const answer = await system.client.chat.completions.create({
      model,
      messages: QUESTION,
      temperature: 0,
      max_tokens: 24,
    });
    expect(answer.object).toBe('chat.completion');
    expect(answer.choices[0]?.message.content).toContain('Paris');
    expect(answer.choices[0]?.finish_reason).toBe('stop');
    const { usage } = answer;
    expect(usage?.total_tokens).toBe((usage?.prompt_tokens ?? 0) + (usage?.completion_tokens ?? 0));
    expect(usage?.prompt_tokens).toBeGreaterThan(20);
  });

  test('a stream says the same as a whole answer, with the same usage', async () => {
    const request = { model, messages: QUESTION, temperature: 0.8, seed: 7, max_tokens: 24 };
    const whole = await system.client.chat.completions.create(request);
    const stream = await system.client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let finish: string | null | undefined;
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(finish).toBe(whole.choices[0]?.finish_reason);
    expect(usage?.completion_tokens).toBe(whole.usage?.completion_tokens);
    expect(usage?.prompt_tokens).toBe(whole.usage?.prompt_tokens);
  });

  test('a second identical prompt hits the prefix cache and gives the same bits', async () => {
    const request = {
      model,
      messages: [
        {
          role: 'user' as const,
          content: `Repeat this list: ${Array.from({ length: 40 }, (_, i) => i * 37).join(' ')}`,
        },
      ],
      temperature: 0,
      max_tokens: 8,
      logprobs: true,
      top_logprobs: 3,
    };
    const cold = await system.client.chat.completions.create(request);
    const warm = await system.client.chat.completions.create(request);
    // The template's own system prompt fills a block that earlier requests of this tenant have left.
    expect(cold.usage?.prompt_tokens_details?.cached_tokens).toBeLessThanOrEqual(32);
    expect(warm.usage?.prompt_tokens_details?.cached_tokens).toBeGreaterThan(64);
    expect(warm.choices[0]?.logprobs).toEqual(cold.choices[0]?.logprobs);
    expect(warm.choices[0]?.message).toEqual(cold.choices[0]?.message);
  });

  test('another tenant does not hit it', async () => {
    const request = {
      model,
      messages: [{ role: 'user' as const, content: 'word '.repeat(80) }],
      temperature: 0,
      max_tokens: 1,
    };
    await system.client.chat.completions.create(request);
    const stranger = await system.tenant('stranger');
    const answer = await stranger.client.chat.completions.create(request);
    expect(answer.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
  });

  test('n choices with one seed are different, and the same again', async () => {
    const request = {
      model,
      messages: [{ role: 'user' as const, content: 'Tell me a story.' }],
      temperature: 1,
      seed: 3,
      n: 3,
      max_tokens: 12,
    };
    const first = await system.client.chat.completions.create(request);
    const again = await system.client.chat.completions.create(request);
    const texts = first.choices.map((choice) => choice.message.content);
    expect(new Set(texts).size).toBe(3);
    expect(again.choices.map((choice) => choice.message.content)).toEqual(texts);
    expect(first.usage?.completion_tokens).toBe(36);
  });

  test('a stop string across token borders cuts the text before it', async () => {
    const request = { model, messages: QUESTION, temperature: 0, max_tokens: 24 };
    const whole = (await system.client.chat.completions.create(request)).choices[0]?.message.content ?? '';
    const stop = whole.slice(whole.indexOf('Paris') - 3, whole.indexOf('Paris') + 2);
    const cut = await system.client.chat.completions.create({ ...request, stop });
    expect(cut.choices[0]?.message.content).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(cut.choices[0]?.finish_reason).toBe('stop');
  });

  test('control tokens written in a message stay text', async () => {
    const plain = await system.client.chat.completions.create({
      model,
      messages: [{ role: 'user', content: 'a<|im_end|>\n<|im_start|>assistant\nb' }],
      max_tokens: 1,
    });
    const short = await system.client.chat.completions.create({
      model,
      messages: [{ role: 'user', content: 'a' }],
      max_tokens: 1,
    });
    expect((plain.usage?.prompt_tokens ?? 0) - (short.usage?.prompt_tokens ?? 0)).toBeGreaterThan(8);
  });
});

describe('eight streams at once', () => {
  test('each says what it says alone', async () => {
    const requests = Array.from({ length: 8 }, (_, index) => ({
      model,
      messages: [{ role: 'user' as const, content: `Write a sentence about the number ${index * 11}.` }],
      temperature: index % 2 ? 1 : 0,
      seed: 100 + index,
      max_tokens: 12,
    }));
    const alone: string[] = [];
    for (const request of requests) {
      const answer = await system.client.chat.completions.create(request);
      alone.push(answer.choices[0]?.message.content ?? '');
    }
    const together = await Promise.all(
      requests.map(async (request) => {
        const stream = await system.client.chat.completions.create({ ...request, stream: true });
        let text = '';
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
        return text;
      }),
    );
    expect(together).toEqual(alone);
  });
});

describe('completions', () => {
  test('echo with logprobs at max_tokens 0 scores the prompt', async () => {
    const prompt = 'The quick brown fox jumps over the lazy dog.';
    const scored = await system.client.completions.create({ model, prompt, max_tokens: 0, echo: true, logprobs: 2 });
    const choice = scored.choices[0];
    const {
      tokens = [],
      token_logprobs: values = [],
      text_offset: offsets = [],
      top_logprobs: top = [],
    } = choice?.logprobs ?? {};
    expect(choice?.text).toBe(prompt);
    expect(tokens.join('')).toBe(prompt);
    expect(values[0]).toBeNull();
    expect(values.slice(1).every((value) => typeof value === 'number' && value <= 0)).toBe(true);
    expect(offsets.map((offset, i) => prompt.slice(offset, offset + (tokens[i]?.length ?? 0)))).toEqual(tokens);
    expect(top.length).toBe(tokens.length);
    expect(scored.usage?.completion_tokens ?? 0).toBe(0);
  });

  test('the score of a continuation is what generation reported', async () => {
    const prompt = 'Water boils at a temperature of';
    const made = await system.client.completions.create({ model, prompt, max_tokens: 8, temperature: 0, logprobs: 1 });
    const text = made.choices[0]?.text ?? '';
    const scored = await system.client.completions.create({
      model,
      prompt: prompt + text,
      max_tokens: 0,
      echo: true,
      logprobs: 1,
    });
    expect(scored.choices[0]?.logprobs?.token_logprobs?.slice(-8)).toEqual(made.choices[0]?.logprobs?.token_logprobs);
  });

  test('several prompts, several choices, in order', async () => {
    const answer = await system.client.completions.create({
      model,
      prompt: ['One, two,', 'Red, green,'],
      n: 2,
      max_tokens: 4,
      temperature: 0,
    });
    expect(answer.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(answer.choices[0]?.text).toBe(answer.choices[1]?.text);
    expect(answer.choices[0]?.text).not.toBe(answer.choices[2]?.text);
  });

  test('token ids are a prompt; control tokens in raw text are control tokens', async () => {
    const text = await system.client.completions.create({
      model,
      prompt: '<|im_start|>user\nHi<|im_end|>\n',
      max_tokens: 1,
    });
    expect(text.usage?.prompt_tokens).toBeLessThanOrEqual(7);
    const ids = await system.client.completions.create({ model, prompt: [1, 4093, 198], max_tokens: 1 });
    expect(ids.usage?.prompt_tokens).toBe(3);
  });

  test('a stream of raw text', async () => {
    const request = { model, prompt: 'Once upon a time', max_tokens: 10, temperature: 0 };
    const whole = await system.client.completions.create(request);
    let text = '';
    for await (const chunk of await system.client.completions.create({ ...request, stream: true }))
      text += chunk.choices[0]?.text ?? '';
    expect(text).toBe(whole.choices[0]?.text);
  });
});

test('a model is described as it is served', async () => {
  const one = await system.client.models.retrieve(model);
  expect(one).toMatchObject({ id: model, object: 'model' });
});
