// What a foreign server is asked besides answers: which models it has and how long their contexts are, a token to see that it computes, how
// many tokens a prompt has, and how busy it is. Each question is bounded in time, and none is on anybody's bill.
import type { Inference } from '../plan.ts';
import { type CompletionRequest, promptsOf } from '../wire/inference.ts';
import { usageIn } from './chunk.ts';
import { type Connection, UpstreamFailed } from './connection.ts';
import { type FigureNames, type Make, recordIn, type TokenQuestion } from './make.ts';
import { samples } from './prometheus.ts';
import { plainMessages, saltField, type UpstreamModel } from './translate.ts';

/** Lists, figures and tokenisers answer at once, unless the server is not well. */
const QUESTION_LIMIT_MS = 5000;
/** A token waits behind what runs there already. */
const TOKEN_LIMIT_MS = 30_000;
/** Figures without a number of blocks are told in thousandths. */
const SHARE_BLOCKS = 1000;

export interface Figures {
  running: number;
  waiting: number;
  blocksTotal: number;
  blocksFree: number;
}

type Prompt = Pick<Extract<Inference, { kind: 'chat' }>['request'], 'messages'> | Pick<CompletionRequest, 'prompt'>;

export class Questions {
  readonly #make: Make;
  readonly #connection: Connection;
  readonly #drawSalt: () => string;

  constructor(make: Make, connection: Connection, drawSalt: () => string) {
    this.#make = make;
    this.#connection = connection;
    this.#drawSalt = drawSalt;
  }

  /** Its names of what it serves, each with the positions of a sequence where it tells them. Throws UpstreamFailed or UpstreamRefused. */
  async models(): Promise<Map<string, number | null>> {
    const { contextOf, contextInfo } = this.#make;
    const list = recordIn(await this.#get('/v1/models')).data;
    if (!Array.isArray(list)) throw new UpstreamFailed('its /v1/models is no list of models');
    const models = new Map<string, number | null>();
    for (const entry of list.map(recordIn))
      if (typeof entry.id === 'string') models.set(entry.id, contextOf(entry) || null);
    if (contextInfo && [...models.values()].includes(null)) {
      const told = contextInfo.of(await this.#get(contextInfo.path).catch(() => null));
      for (const [id, context] of models) models.set(id, context ?? told);
    }
    return models;
  }

  /** Resolves when the server says that it is up. Throws UpstreamFailed or UpstreamRefused. */
  async health(): Promise<void> {
    const signal = AbortSignal.timeout(QUESTION_LIMIT_MS);
    await this.#connection.text({ method: 'GET', path: this.#make.healthPath, signal });
  }

  /** Generates one token. Throws UpstreamFailed or UpstreamRefused. */
  async token(model: string): Promise<void> {
    await this.#oneToken(model, { prompt: 'a' }, AbortSignal.timeout(TOKEN_LIMIT_MS));
  }

  /** Exact tokens of each prompt. Throws UpstreamFailed or UpstreamRefused. */
  async count(model: UpstreamModel, prompt: Prompt, signal?: AbortSignal): Promise<number[]> {
    if ('messages' in prompt) return [await this.#countChat(model.name, prompt, signal)];
    return Promise.all(
      promptsOf(prompt.prompt).map((one) =>
        typeof one === 'string' ? this.#countText(model.name, one, signal) : one.length,
      ),
    );
  }

  /** Throws UpstreamFailed or UpstreamRefused. */
  async figures(names: FigureNames): Promise<Figures> {
    const signal = AbortSignal.timeout(QUESTION_LIMIT_MS);
    return figuresOf(await this.#connection.text({ method: 'GET', path: names.path, signal }), names);
  }

  /** Whether it tells the figures of its make. Throws UpstreamFailed or UpstreamRefused. */
  async tellsFigures({ path, running }: FigureNames): Promise<boolean> {
    const signal = AbortSignal.timeout(QUESTION_LIMIT_MS);
    const text = await this.#connection.text({ method: 'GET', path, signal });
    return [...samples(text)].some(({ name }) => name === running);
  }

  async #countChat(model: string, { messages }: Extract<Prompt, { messages: unknown }>, signal?: AbortSignal) {
    const { chat, render } = this.#make.counter;
    const plain = plainMessages(messages);
    if (chat) return this.#tokens(chat(model, plain), signal);
    if (!render) return this.#oneToken(model, { messages: plain }, within(TOKEN_LIMIT_MS, signal));
    const { path, body } = render(model, plain);
    const { prompt } = recordIn(await this.#post(path, body, signal));
    if (typeof prompt !== 'string') throw new UpstreamFailed('it does not render the chat');
    return this.#countText(model, prompt, signal);
  }

  async #countText(model: string, text: string, signal?: AbortSignal): Promise<number> {
    const question = this.#make.counter.text?.(model, text);
    if (question) return this.#tokens(question, signal);
    return this.#oneToken(model, { prompt: text }, within(TOKEN_LIMIT_MS, signal));
  }

  async #tokens({ path, body, tokens }: TokenQuestion, signal?: AbortSignal): Promise<number> {
    const counted = tokens(await this.#post(path, body, signal));
    if (counted === null) throw new UpstreamFailed(`its ${path} has another shape than is documented`);
    return counted;
  }

  /** The prompt's tokens, as the usage of one generated token tells them. Nobody's cache is looked at or left anything. */
  async #oneToken(model: string, prompt: { messages: unknown } | { prompt: string }, signal: AbortSignal) {
    const kind = 'messages' in prompt ? 'chat' : 'completion';
    const path = kind === 'chat' ? '/v1/chat/completions' : '/v1/completions';
    const { cache } = this.#make;
    const salt = saltField(cache, kind);
    const alone = cache.kind === 'switch' ? cache.off : salt === null ? {} : { [salt]: this.#drawSalt() };
    const body = { model, ...prompt, ...alone, max_tokens: 1, temperature: 0, stream: false };
    const usage = usageIn(recordIn(await this.#connection.json({ method: 'POST', path, body, signal })).usage);
    if (!usage) throw new UpstreamFailed('its answer tells no usage');
    return usage.prompt;
  }

  #get(path: string): Promise<unknown> {
    return this.#connection.json({ method: 'GET', path, signal: AbortSignal.timeout(QUESTION_LIMIT_MS) });
  }

  #post(path: string, body: object, signal?: AbortSignal): Promise<unknown> {
    return this.#connection.json({ method: 'POST', path, body, signal: within(QUESTION_LIMIT_MS, signal) });
  }
}

function within(ms: number, signal: AbortSignal | undefined): AbortSignal {
  return signal ? AbortSignal.any([signal, AbortSignal.timeout(ms)]) : AbortSignal.timeout(ms);
}

/** Whether the make counts such prompts without computing them. */
export function countsByRoute({ counter }: Make, kind: Inference['kind']): boolean {
  return kind === 'chat'
    ? counter.chat !== null || (counter.render !== null && counter.text !== null)
    : counter.text !== null;
}

/** A make with several engines tells a sample for each: requests and blocks add up, and of shares the mean counts. */
export function figuresOf(text: string, { running, waiting, kvUse, blocks }: FigureNames): Figures {
  const all = [...samples(text)];
  const valuesOf = (name: string | null) => all.filter((one) => one.name === name).map(({ value }) => value);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const whole = (name: string | null) => Math.max(0, Math.round(sum(valuesOf(name))));
  const shares = valuesOf(kvUse);
  const told =
    blocks && sum(all.filter(({ name }) => name === blocks.sample).map(({ labels }) => blocksIn(labels[blocks.label])));
  const blocksTotal = shares.length === 0 ? 0 : told || SHARE_BLOCKS;
  const use = Math.min(1, Math.max(0, sum(shares) / Math.max(1, shares.length)));
  return {
    running: whole(running),
    waiting: whole(waiting),
    blocksTotal,
    blocksFree: Math.round(blocksTotal * (1 - use)),
  };
}

function blocksIn(label: string | undefined): number {
  const value = Number(label);
  return Number.isSafeInteger(value) && value > 0 ? value : 0;
}
