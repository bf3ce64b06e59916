// One chat completion as OpenAI's servers send it: whole, and as the events of a stream.

/** `events`: each with its blank line, the terminator included. */
export function openaiAnswer(model: string, tokens: number, promptTokens: number): { whole: string; events: string[] } {
  const head = { id: 'chatcmpl-bench', created: 1_700_000_000, model };
  const usage = { prompt_tokens: promptTokens, completion_tokens: tokens, total_tokens: promptTokens + tokens };
  const words = Array.from({ length: tokens }, (_, i) => ` w${i}`);
  const message = { role: 'assistant', content: words.join('') };
  const whole = JSON.stringify({
    ...head,
    object: 'chat.completion',
    choices: [{ index: 0, message, finish_reason: 'length' }],
    usage,
  });
  const chunk = (delta: object, finish_reason: string | null) =>
    `data: ${JSON.stringify({ ...head, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
  const events = [
    chunk({ role: 'assistant', content: '' }, null),
    ...words.map((content, i) => chunk({ content }, i === tokens - 1 ? 'length' : null)),
    'data: [DONE]\n\n',
  ];
  return { whole, events };
}
