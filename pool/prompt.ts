// The exact token ids of a request's prompts: a chat through the model's template, raw text with its control tokens parsed, ids as
// they come. Text that can't fit the context is refused by its length, before the time to tokenise it is spent.
import { contextExceeded, invalidRequest } from './errors.ts';
import type { PoolModel } from './servedModel.ts';
import { type ChatMessage, type CompletionRequest, contentText, promptsOf } from './wire/inference.ts';

function utf8Bytes(text: string): number {
  return Buffer.byteLength(text, 'utf8');
}

/** Throws PoolError when `bytes` of text are certainly longer than the context. */
function refuseHopeless(model: PoolModel, bytes: number, param: string): void {
  const atLeast = Math.ceil(bytes / model.longestTokenBytes);
  if (atLeast > model.contextLength)
    throw contextExceeded({
      context: model.contextLength,
      promptTokens: atLeast,
      maxTokens: null,
      param,
      atLeast: true,
    });
}

/** Ids of a chat, ready for generation. Throws PoolError (400) with the template's own words when it refuses the messages. */
export function chatPrompt(model: PoolModel, messages: readonly ChatMessage[]): number[] {
  const plain = messages.map(({ role, content, name }) => ({
    role: role === 'developer' ? 'system' : role,
    content: contentText(content),
    ...(name !== undefined && { name }),
  }));
  refuseHopeless(
    model,
    plain.reduce((sum, message) => sum + utf8Bytes(message.content), 0),
    'messages',
  );
  try {
    return model.text.renderChat(plain);
  } catch (error) {
    if (error instanceof Error && error.name === 'ChatTemplateError')
      throw invalidRequest(`The model's chat template refuses these messages: ${error.message}`, 'messages');
    throw error;
  }
}

/** Ids of each prompt of a completion. Throws PoolError (400) naming `prompt`. */
export function completionPrompts(model: PoolModel, prompt: CompletionRequest['prompt']): number[][] {
  return promptsOf(prompt).map((one) => (typeof one === 'string' ? rawPrompt(model, one) : knownIds(model, one)));
}

function rawPrompt(model: PoolModel, text: string): number[] {
  refuseHopeless(model, utf8Bytes(text), 'prompt');
  const ids = model.text.encode(text, { parseSpecial: true });
  if (ids.length > 0) return ids;
  if (model.text.bosId !== null) return [model.text.bosId];
  throw invalidRequest(
    'An empty prompt needs a model with a beginning-of-sequence token. Send at least one character.',
    'prompt',
  );
}

function knownIds(model: PoolModel, ids: number[]): number[] {
  const unknown = ids.find((id) => id >= model.vocabSize);
  if (unknown !== undefined)
    throw invalidRequest(`Token id ${unknown} is not in the vocabulary of ${model.vocabSize} tokens.`, 'prompt');
  return ids;
}
