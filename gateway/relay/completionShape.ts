// Pool events as OpenAI's text_completion. With echo each choice's text begins with its prompt, and its logprobs with the prompt's
// tokens. Streamed or not, the same pieces are made here; the collector only joins them.
import type { FinishReason, PoolEvent, TokenLogprob } from '../../pool/wire/events.ts';
import { type Collector, Endings, type ShapeHead, type Shaper } from './shape.ts';
import { TextOffsets } from './textOffsets.ts';

export interface CompletionShapeOptions {
  /** As the request has them: text, or token ids. */
  prompts: readonly (string | readonly number[])[];
  /** Choices per prompt. */
  n: number;
  echo: boolean;
  logprobs: boolean;
}

interface LogprobsBody {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  text_offset: number[];
}

interface Piece {
  choice: number;
  text: string;
  logprobs: LogprobsBody | null;
  finish_reason: FinishReason | null;
}

type Delta = Extract<PoolEvent, { type: 'delta' }>;

/**
 * Pieces of text per choice, in order, for each event. Only a prompt's first choice scores it, and another may be ahead: with echo, what
 * a prompt's choices say waits until its tokens are told (bounded by max_tokens).
 */
function pieceMaker({ prompts, n, echo, logprobs }: CompletionShapeOptions): (event: PoolEvent) => Piece[] {
  const endings = new Endings(prompts.length * n);
  const offsets = Array.from({ length: prompts.length * n }, () => new TextOffsets());
  const echoes = prompts.map((prompt) => new Echo(typeof prompt === 'string' ? prompt : null));

  function body(choice: number, tokens: readonly TokenLogprob[], givenText: string | null): LogprobsBody {
    const offset = offsets[choice] ?? new TextOffsets();
    return {
      tokens: tokens.map(({ token }) => token),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: tokens.map((token) => topOf(token)),
      // A control token that the pool put before a prompt of text is not part of that text.
      text_offset: tokens.map((token, i) =>
        offset.next(token, i > 0 || givenText === null || begins(givenText, token.token)),
      ),
    };
  }

  function said(event: Delta): Piece[] {
    const { choice, text, finish_reason = null } = event;
    if (finish_reason) endings.end(choice);
    if (text === '' && !finish_reason && !event.logprobs?.length) return [];
    const told = logprobs && event.logprobs?.length ? body(choice, event.logprobs, null) : null;
    return [{ choice, text, logprobs: told, finish_reason }];
  }

  function echoed(prompt: number, state: Echo, tokens: readonly TokenLogprob[]): Piece[] {
    const first = !state.begun;
    const text = state.take(tokens);
    return Array.from({ length: n }, (_, i) => ({
      choice: prompt * n + i,
      text,
      logprobs: logprobs && tokens.length > 0 ? body(prompt * n + i, tokens, first ? state.given : null) : null,
      finish_reason: null,
    }));
  }

  return (event) => {
    switch (event.type) {
      case 'prompt':
        for (const [prompt, ids] of event.prompts.entries()) echoes[prompt]?.expect(echo ? ids.length : 0);
        return [];
      case 'prompt_logprobs': {
        const state = echoes[event.prompt];
        if (!echo || !state) return [];
        const pieces = echoed(event.prompt, state, event.tokens);
        return state.complete ? [...pieces, ...state.release().flatMap(said)] : pieces;
      }
      case 'delta': {
        const state = echoes[Math.floor(event.choice / n)];
        if (!state || state.complete) return said(event);
        state.hold(event);
        return [];
      }
      case 'done': {
        const late = echoes.flatMap((state) => state.release().flatMap(said));
        return [...late, ...endings.rest().map((end) => ({ ...end, text: '', logprobs: null }))];
      }
      default:
        return [];
    }
  };
}

/** How far one prompt is told. Token ids have no text but what the pool tells of them: bytes, as a character may span two events. */
class Echo {
  /** The prompt as text; null: it came as ids. */
  readonly given: string | null;
  begun = false;
  #missing = 0;
  #held: Delta[] = [];
  readonly #decoder = new TextDecoder();

  constructor(given: string | null) {
    this.given = given;
  }

  get complete(): boolean {
    return this.#missing <= 0;
  }

  expect(tokens: number): void {
    this.#missing = tokens;
  }

  /** Text that these tokens of the prompt add. */
  take(tokens: readonly TokenLogprob[]): string {
    this.#missing -= tokens.length;
    const first = !this.begun;
    this.begun = true;
    if (this.given !== null) return first ? this.given : '';
    const bytes = tokens.flatMap(({ token, bytes }) => bytes ?? [...new TextEncoder().encode(token)]);
    return this.#decoder.decode(Uint8Array.from(bytes), { stream: !this.complete });
  }

  hold(event: Delta): void {
    this.#held.push(event);
  }

  release(): Delta[] {
    return this.#held.splice(0);
  }
}

/** U+FFFD stands for a part of a character, which can't be compared. */
function begins(text: string, token: string): boolean {
  return token.includes('\uFFFD') || text.startsWith(token);
}

/** The alternatives and the token itself, by text; of two tokens with one text the likelier stands. */
function topOf({ token, logprob, top }: TokenLogprob): Record<string, number> | null {
  if (logprob === null) return null;
  const byText = new Map<string, number>([[token, logprob]]);
  for (const one of top)
    byText.set(one.token, Math.max(one.logprob, byText.get(one.token) ?? Number.NEGATIVE_INFINITY));
  return Object.fromEntries(byText);
}

export function completionShaper(head: ShapeHead, options: CompletionShapeOptions): Shaper {
  const pieces = pieceMaker(options);
  const chunk = (choices: object[]) => ({
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model: head.model,
    system_fingerprint: head.system_fingerprint,
    choices,
  });
  return {
    chunks: (event) =>
      pieces(event).map(({ choice, text, logprobs, finish_reason }) =>
        chunk([{ text, index: choice, logprobs, finish_reason }]),
      ),
    usageChunk: () => chunk([]),
  };
}

export function completionCollector(head: ShapeHead, options: CompletionShapeOptions): Collector {
  const pieces = pieceMaker(options);
  const gathered = Array.from({ length: options.prompts.length * options.n }, () => ({
    text: [] as string[],
    logprobs: { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] } as LogprobsBody,
    finish: 'length' as FinishReason,
  }));
  return {
    add(event) {
      for (const piece of pieces(event)) {
        const choice = gathered[piece.choice];
        if (!choice) continue;
        choice.text.push(piece.text);
        if (piece.finish_reason) choice.finish = piece.finish_reason;
        if (!piece.logprobs) continue;
        choice.logprobs.tokens.push(...piece.logprobs.tokens);
        choice.logprobs.token_logprobs.push(...piece.logprobs.token_logprobs);
        choice.logprobs.top_logprobs.push(...piece.logprobs.top_logprobs);
        choice.logprobs.text_offset.push(...piece.logprobs.text_offset);
      }
    },
    answer: () => ({
      id: head.id,
      object: 'text_completion',
      created: head.created,
      model: head.model,
      system_fingerprint: head.system_fingerprint,
      choices: gathered.map(({ text, logprobs, finish }, index) => ({
        text: text.join(''),
        index,
        logprobs: options.logprobs ? logprobs : null,
        finish_reason: finish,
      })),
    }),
  };
}
