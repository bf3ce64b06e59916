// The official client for Node, unmodified.
import OpenAI from 'openai';
import type { Call, Client, Told } from './port.ts';

export const nodeClient: Client = {
  async call({ baseURL, apiKey, maxRetries, body, idempotencyKey }: Call): Promise<Told> {
    const client = new OpenAI({ baseURL, apiKey, maxRetries });
    const request = body as OpenAI.ChatCompletionCreateParams;
    const options = idempotencyKey === null ? {} : { headers: { 'Idempotency-Key': idempotencyKey } };
    try {
      const answer = await client.chat.completions.create(request, options);
      if ('choices' in answer)
        return { text: answer.choices[0]?.message.content ?? '', tokens: answer.usage?.total_tokens ?? 0 };
      let text = '';
      let tokens = 0;
      for await (const { choices, usage } of answer) {
        text += choices.map(({ delta }) => delta.content ?? '').join('');
        tokens = usage?.total_tokens ?? tokens;
      }
      return { text, tokens };
    } catch (error) {
      if (!(error instanceof OpenAI.APIError)) throw error;
      return { error: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
    }
  },
  async close() {},
};
