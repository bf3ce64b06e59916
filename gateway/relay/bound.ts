// A proven upper bound of a prompt's tokens without a tokeniser: every token covers at least one byte of UTF-8, and what the chat
// template adds is declared by the pool. A prompt is never longer than the context, or the pool refuses it.
import type { ServedModel } from '../../pool/wire/events.ts';
import { type ChatMessage, type CompletionRequest, contentText, promptsOf } from '../../pool/wire/inference.ts';

/** Added to a raw prompt's bytes: the beginning-of-sequence token, and the space that some tokenisers put in front. */
const RAW_PROMPT_EXTRA_TOKENS = 2;

export interface PromptBound {
  /** Over all prompts. */
  tokens: number;
  /** Of the longest one. */
  longestTokens: number;
  exact: boolean;
}

function utf8Bytes(text: string): number {
  return Buffer.byteLength(text, 'utf8');
}

export function boundOfChat(messages: readonly ChatMessage[], model: ServedModel): PromptBound {
  const written = messages.reduce(
    (sum, { content, name }) => sum + utf8Bytes(contentText(content)) + utf8Bytes(name ?? ''),
    0,
  );
  const template = model.template_tokens_per_prompt + messages.length * model.template_tokens_per_message;
  const tokens = Math.min(model.context_length, written + template);
  return { tokens, longestTokens: tokens, exact: false };
}

/** Prompts of token ids count exactly. */
export function boundOfCompletion(prompt: CompletionRequest['prompt'], model: ServedModel): PromptBound {
  const prompts = promptsOf(prompt);
  const each = prompts.map((one) =>
    typeof one === 'string' ? Math.min(model.context_length, utf8Bytes(one) + RAW_PROMPT_EXTRA_TOKENS) : one.length,
  );
  return boundOf(each, !prompts.some((one) => typeof one === 'string'));
}

export function boundOf(tokensPerPrompt: readonly number[], exact: boolean): PromptBound {
  const tokens = tokensPerPrompt.reduce((sum, one) => sum + one, 0);
  return { tokens, longestTokens: tokensPerPrompt.reduce((most, one) => Math.max(most, one), 0), exact };
}
