// Messages to the token ids of a prompt, by the model's own chat template. What a requester writes stays plain text; what the template
// writes may be control tokens. A model without a usable template says so, and still serves raw completions.
import { BoundedTemplate, TemplateBounds, TemplateRaised } from './boundedTemplate.ts';
import { ChatTemplateError } from './errors.ts';
import { PlainContent, unusedMarker } from './plainContent.ts';
import { SpecialTokens } from './specialTokens.ts';
import { measureOverhead, type Segment, type TemplateMessage, type TemplateOverhead } from './templateOverhead.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Characters of all messages together: above any context window, below what would hold the thread. */
export const MAX_CHAT_CHARS = 4_194_304;
/** Characters of the template's own words in an error. */
const MAX_WORDS = 500;

function asTemplateError(error: unknown): ChatTemplateError {
  if (error instanceof ChatTemplateError) return error;
  if (error instanceof TemplateBounds) return new ChatTemplateError('bounds', error.message, { cause: error });
  const words = (error instanceof Error ? error.message : String(error)).slice(0, MAX_WORDS);
  const message = error instanceof TemplateRaised ? words : `the chat template fails on these messages: ${words}`;
  return new ChatTemplateError('refused', message, { cause: error });
}

export class ChatTemplate {
  readonly overhead: TemplateOverhead;
  readonly #tokenizer: Tokenizer;
  readonly #control: SpecialTokens;
  readonly #plainContent: PlainContent;
  readonly #names: Record<string, unknown>;
  /** The template, or why there is none. */
  readonly #template: BoundedTemplate | ChatTemplateError;

  /** `source` null: the model has no template. Never throws for what the template says. */
  constructor(source: string | null, tokenizer: Tokenizer, nowMs: () => number) {
    const { vocabulary } = tokenizer;
    this.#tokenizer = tokenizer;
    this.#control = new SpecialTokens(vocabulary.control);
    this.#plainContent = new PlainContent(vocabulary.control.keys());
    const written = (id: number | null | undefined) => (id === null || id === undefined ? '' : tokenizer.decode([id]));
    this.#names = {
      ...{ bos_token: written(vocabulary.bosId), eos_token: written([...vocabulary.eosIds][0]) },
      ...{ add_generation_prompt: true, tools: null, documents: null },
    };
    this.#template = this.#compile(source, nowMs);
    try {
      this.overhead = this.#measure();
    } catch (error) {
      this.#template = asTemplateError(error);
      this.overhead = { tokensPerMessage: 0, tokensPerPrompt: 0 };
    }
  }

  #compile(source: string | null, nowMs: () => number): BoundedTemplate | ChatTemplateError {
    if (source === null)
      return new ChatTemplateError(
        'missing',
        'this model has no chat template: use /v1/completions with a prompt in the form it was trained on',
      );
    try {
      return new BoundedTemplate(source, nowMs);
    } catch (error) {
      const words = error instanceof Error ? error.message.slice(0, MAX_WORDS) : String(error);
      return new ChatTemplateError('missing', `this model's chat template can't be read: ${words}`, { cause: error });
    }
  }

  #measure(): TemplateOverhead {
    const overhead = measureOverhead(
      (chats) => this.#segmentsOf(chats),
      (text) => this.#count(text),
    );
    return this.#tokenizer.addsBos ? { ...overhead, tokensPerPrompt: overhead.tokensPerPrompt + 1 } : overhead;
  }

  #count(text: string): number {
    const ids: number[] = [];
    this.#tokenizer.encodePlain(text, ids);
    return ids.length;
  }

  /** The prompt's ids, ready for generation. Throws ChatTemplateError. */
  render(messages: readonly TemplateMessage[]): number[] {
    const [segments] = this.#segmentsOf([messages]);
    if (!segments || segments instanceof ChatTemplateError) throw segments;
    const ids: number[] = [];
    for (const segment of segments)
      if (typeof segment === 'number') ids.push(segment);
      else this.#tokenizer.encodePlain(segment, ids);
    const prompt = this.#tokenizer.withBos(ids);

    const { tokensPerMessage, tokensPerPrompt } = this.overhead;
    const bytes = messages.reduce((sum, { content, name }) => sum + utf8Bytes(content) + utf8Bytes(name ?? ''), 0);
    const most = bytes + tokensPerMessage * messages.length + tokensPerPrompt;
    if (prompt.length > most)
      throw new ChatTemplateError(
        'bounds',
        `the chat template makes ${prompt.length} tokens of messages for which it was measured to make at most ${most}`,
      );
    return prompt;
  }

  /** Each chat rendered and cut at the control tokens that the template wrote, or why it was refused. */
  #segmentsOf(chats: readonly (readonly TemplateMessage[])[]): (Segment[] | ChatTemplateError)[] {
    if (!(this.#template instanceof BoundedTemplate)) throw this.#template;
    const safe = chats.map((messages) => this.#protected(messages));
    let rendered: ReturnType<BoundedTemplate['renderAll']>;
    try {
      rendered = this.#template.renderAll(safe.map(({ messages }) => ({ ...this.#names, messages })));
    } catch (error) {
      throw asTemplateError(error);
    }
    return rendered.map((text, i) => {
      if (typeof text !== 'string') return asTemplateError(text.error);
      const segments: Segment[] = [];
      this.#control.split(
        text,
        (plain) => {
          const unmarked = plain.replaceAll(safe[i]!.marker, '');
          if (unmarked !== '') segments.push(unmarked);
        },
        (id) => segments.push(id),
      );
      return segments;
    });
  }

  #protected(messages: readonly TemplateMessage[]): { messages: TemplateMessage[]; marker: string } {
    const chars = messages.reduce((sum, { content, name }) => sum + content.length + (name?.length ?? 0), 0);
    if (chars > MAX_CHAT_CHARS)
      throw new ChatTemplateError(
        'bounds',
        `the messages have ${chars} characters; at most ${MAX_CHAT_CHARS} are supported`,
      );
    const marker = unusedMarker(messages.flatMap(({ role, content, name }) => [role, content, name ?? '']));
    if (marker === null)
      throw new ChatTemplateError('bounds', 'the messages use up all private-use characters of Unicode; leave one out');
    const protect = (text: string) => this.#plainContent.protect(text.toWellFormed(), marker);
    const safe = messages.map(({ role, content, name }) => ({
      role,
      content: protect(content),
      ...(name !== undefined && { name: protect(name) }),
    }));
    return { messages: safe, marker };
  }
}

function utf8Bytes(text: string): number {
  return Buffer.byteLength(text, 'utf8');
}
