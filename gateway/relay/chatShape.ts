// Pool events as OpenAI's chat.completion and chat.completion.chunk. A stream's first chunk of each choice has the role, the last one
// the finish reason.
import type { FinishReason, PoolEvent, TokenLogprob } from '../../pool/wire/events.ts';
import { type Collector, chatLogprobs, Endings, type ShapeHead, type Shaper } from './shape.ts';

export function chatShaper(head: ShapeHead, choices: number): Shaper {
  const endings = new Endings(choices);
  const chunk = (
    index: number,
    delta: object,
    logprobs: readonly TokenLogprob[] | undefined,
    finish: FinishReason | null,
  ) => ({
    id: head.id,
    object: 'chat.completion.chunk',
    created: head.created,
    model: head.model,
    system_fingerprint: head.system_fingerprint,
    ...(head.service_tier !== undefined && { service_tier: head.service_tier }),
    choices: [{ index, delta, logprobs: logprobs?.length ? chatLogprobs(logprobs) : null, finish_reason: finish }],
  });
  return {
    chunks(event: PoolEvent): object[] {
      switch (event.type) {
        case 'prompt':
          return Array.from({ length: choices }, (_, index) =>
            chunk(index, { role: 'assistant', content: '', refusal: null }, undefined, null),
          );
        case 'delta': {
          const said = event.text !== '' || event.logprobs?.length;
          const chunks = said ? [chunk(event.choice, { content: event.text }, event.logprobs, null)] : [];
          if (!event.finish_reason) return chunks;
          endings.end(event.choice);
          return [...chunks, chunk(event.choice, {}, undefined, event.finish_reason)];
        }
        case 'done':
          return endings.rest().map(({ choice, finish_reason }) => chunk(choice, {}, undefined, finish_reason));
        default:
          return [];
      }
    },
    usageChunk: () => ({ ...chunk(0, {}, undefined, null), choices: [] }),
  };
}

export function chatCollector(head: ShapeHead, choices: number, wantsLogprobs: boolean): Collector {
  const gathered: { text: string; logprobs: TokenLogprob[]; finish: FinishReason }[] = [];
  for (let i = 0; i < choices; i++) gathered.push({ text: '', logprobs: [], finish: 'length' });
  return {
    add(event: PoolEvent): void {
      if (event.type !== 'delta') return;
      const choice = gathered[event.choice];
      if (!choice) return;
      choice.text += event.text;
      if (event.logprobs) choice.logprobs.push(...event.logprobs);
      if (event.finish_reason) choice.finish = event.finish_reason;
    },
    answer: () => ({
      id: head.id,
      object: 'chat.completion',
      created: head.created,
      model: head.model,
      system_fingerprint: head.system_fingerprint,
      ...(head.service_tier !== undefined && { service_tier: head.service_tier }),
      choices: gathered.map(({ text, logprobs, finish }, index) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: wantsLogprobs ? chatLogprobs(logprobs) : null,
        finish_reason: finish,
      })),
    }),
  };
}
