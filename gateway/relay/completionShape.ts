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

/** Pieces of text per choice, in order, for each event. */
function pieceMaker({ prompts, n, echo, logprobs }: CompletionShapeOptions): (event: PoolEvent) => Piece[] {
  const endings = new Endings(prompts.length * n);
  const offsets = Array.from({ length: prompts.length * n }, () => new TextOffsets());
  // Token ids have no text but what the pool tells of them; bytes, because a character may span two events.
  const echoed = prompts.map((prompt) => ({
    text: typeof prompt === 'string' ? prompt : null,
    begun: false,
    decoder: new TextDecoder(),
  }));
  const choicesOf = (prompt: number) => Array.from({ length: n }, (_, i) => prompt * n + i);

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

  /** What the prompt adds to its choices' text with these of its tokens. */
  function echoPieces(prompt: number, tokens: readonly TokenLogprob[]): Piece[] {
    const state = echoed[prompt];
    if (!echo || !state) return [];
    const first = !state.begun;
    state.begun = true;
    const bytes = tokens.flatMap(({ token, bytes }) => bytes ?? [...new TextEncoder().encode(token)]);
    const decoded = state.decoder.decode(Uint8Array.from(bytes), { stream: true });
    const text = state.text === null ? decoded : first ? state.text : '';
    return choicesOf(prompt).map((choice) => ({
      choice,
      text,
      logprobs: logprobs && tokens.length > 0 ? body(choice, tokens, first ? state.text : null) : null,
      finish_reason: null,
    }));
  }

  /** A prompt of text is echoed before anything else even if the pool told nothing of its tokens. */
  const echoBefore = (prompt: number) => (echoed[prompt]?.begun === false ? echoPieces(prompt, []) : []);

  return (event) => {
    if (event.type === 'prompt_logprobs') return echoPieces(event.prompt, event.tokens);
    if (event.type === 'delta') {
      const said = event.text !== '' || event.finish_reason !== undefined || event.logprobs?.length;
      if (event.finish_reason) endings.end(event.choice);
      const before = echoBefore(Math.floor(event.choice / n));
      if (!said) return before;
      const told = logprobs && event.logprobs?.length ? body(event.choice, event.logprobs, null) : null;
      return [
        ...before,
        { choice: event.choice, text: event.text, logprobs: told, finish_reason: event.finish_reason ?? null },
      ];
    }
    if (event.type !== 'done') return [];
    const before = prompts.flatMap((_, prompt) => echoBefore(prompt));
    return [...before, ...endings.rest().map((end) => ({ ...end, text: '', logprobs: null }))];
  };
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
