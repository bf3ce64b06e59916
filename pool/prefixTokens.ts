// The token ids that every prompt with a declared beginning starts with. Text goes through the model's own tokeniser and template,
// with several continuations: what they have in common is certain, also where a tokeniser merges the last characters with the next.
import { BLOCK_TOKENS } from '../engine/modelRunner.ts';
import { invalidRequest } from './errors.ts';
import { chatPrompt, completionPrompts } from './prompt.ts';
import type { PoolModel } from './servedModel.ts';
import type { ChatMessage } from './wire/inference.ts';
import type { PrefixDeclaration } from './wire/publicPrefixes.ts';

/** Continuations of different character classes: a letter, a word, a digit, punctuation, a line break. */
const CONTINUATIONS = ['a', ' the', '0', '.', '\n'];

/** Throws PoolError (400): not renderable, outside the vocabulary or the context, or less than a block. */
export function prefixTokens(model: PoolModel, declaration: PrefixDeclaration): number[] {
  const { text, messages, token_ids } = declaration;
  const variants =
    messages !== undefined
      ? chatsFrom(messages).map((chat) => chatPrompt(model, chat))
      : completionPrompts(model, text !== undefined ? CONTINUATIONS.map((next) => text + next) : (token_ids ?? []));
  const ids = sharedPrefix(variants);
  const param = messages !== undefined ? 'messages' : text !== undefined ? 'text' : 'token_ids';
  if (ids.length < BLOCK_TOKENS)
    throw invalidRequest(
      `Prompts that begin so have ${ids.length} tokens in common; blocks of ${BLOCK_TOKENS} are shared, so declare at least one.`,
      param,
    );
  if (ids.length >= model.contextLength)
    throw invalidRequest(`The prefix has ${ids.length} tokens, and the context only ${model.contextLength}.`, param);
  return ids;
}

/** Chats that begin with these messages and go on differently. */
function chatsFrom(messages: readonly ChatMessage[]): ChatMessage[][] {
  const role = messages.at(-1)?.role === 'user' ? 'assistant' : 'user';
  return CONTINUATIONS.map((content) => [...messages, { role, content }]);
}

function sharedPrefix([first = [], ...others]: readonly number[][]): number[] {
  let length = first.length;
  for (const other of others) {
    let same = 0;
    while (same < length && first[same] === other[same]) same += 1;
    length = same;
  }
  return first.slice(0, length);
}
