// A model's text side in one piece: tokeniser and chat template, from the metadata of its file.
import { ChatTemplate } from './chatTemplate.ts';
import type { GgufMetadata } from './gguf.ts';
import { readModelHeader } from './modelFile.ts';
import { readTokenizer, type Tokenizer } from './tokenizer.ts';
import type { ModelText } from './types.ts';

class GgufModelText implements ModelText {
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosIds: ReadonlySet<number>;
  readonly templateTokensPerMessage: number;
  readonly templateTokensPerPrompt: number;
  readonly #tokenizer: Tokenizer;
  readonly #template: ChatTemplate;

  constructor(tokenizer: Tokenizer, template: ChatTemplate) {
    this.vocabSize = tokenizer.vocabulary.size;
    this.bosId = tokenizer.vocabulary.bosId;
    this.eosIds = tokenizer.vocabulary.eosIds;
    this.templateTokensPerMessage = template.overhead.tokensPerMessage;
    this.templateTokensPerPrompt = template.overhead.tokensPerPrompt;
    this.#tokenizer = tokenizer;
    this.#template = template;
  }

  encode(text: string, options: { parseSpecial: boolean }): number[] {
    return this.#tokenizer.encode(text, options);
  }

  decode(ids: readonly number[], options?: { skipSpecial?: boolean }): string {
    return this.#tokenizer.decode(ids, options);
  }

  tokenBytes(id: number): Uint8Array {
    return this.#tokenizer.tokenBytes(id);
  }

  isControl(id: number): boolean {
    return this.#tokenizer.isControl(id);
  }

  renderChat(messages: readonly { role: string; content: string; name?: string }[]): number[] {
    return this.#template.render(messages);
  }
}

/** `nowMs`: Unix milliseconds, for templates that write the date. Throws ModelFileError when the tokeniser isn't supported. */
export function readModelText(metadata: GgufMetadata, nowMs: () => number = Date.now): ModelText {
  const tokenizer = readTokenizer(metadata);
  const source = metadata.get('tokenizer.chat_template');
  return new GgufModelText(tokenizer, new ChatTemplate(typeof source === 'string' ? source : null, tokenizer, nowMs));
}

/** The text side of a model file, whose weights stay unread. Throws ModelFileError. */
export async function openModelText(path: string): Promise<ModelText> {
  const { metadata } = await readModelHeader(path);
  return readModelText(metadata);
}
