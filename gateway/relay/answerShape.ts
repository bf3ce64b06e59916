// Which of OpenAI's objects a request is answered with: a chat's or a completion's, whole or as chunks.
import { promptsOf } from '../../pool/wire/inference.ts';
import { type Answer, streamedAnswer, wholeAnswer } from './answer.ts';
import { chatCollector, chatShaper } from './chatShape.ts';
import { completionCollector, completionShaper } from './completionShape.ts';
import type { Asked } from './normalise.ts';
import type { Inference } from './poolClient.ts';
import type { ShapeHead } from './shape.ts';

export function answerOf(head: ShapeHead, inference: Inference, { n, stream, includeUsage }: Asked): Answer {
  if (inference.kind === 'chat') {
    if (stream) return streamedAnswer(chatShaper(head, n), includeUsage);
    return wholeAnswer(chatCollector(head, n, inference.request.logprobs ?? false));
  }
  const { prompt, echo, logprobs } = inference.request;
  const options = { prompts: promptsOf(prompt), n, echo: echo ?? false, logprobs: typeof logprobs === 'number' };
  if (stream) return streamedAnswer(completionShaper(head, options), includeUsage);
  return wholeAnswer(completionCollector(head, options));
}
