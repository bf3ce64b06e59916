// One choice's output: ids in, released positions and certain text out. It decides where the choice ends: at the engine's word, or at
// the token that completes a stop string. What the engine computed beyond that token is never released. A choice that somebody began goes on
// with the same half characters and half stop strings held back as there.
import { invariant } from '../engine/invariant.ts';
import type { SequenceOutput } from '../engine/request.ts';
import { Detokenizer, type TokenTexts } from './detokenizer.ts';
import { StopScanner, type StopSet } from './stopStrings.ts';
import type { FinishReason } from './wire/events.ts';

export interface Released {
  /** Output position of ids[0]. */
  position: number;
  ids: number[];
  text: string;
  finish: FinishReason | null;
  /** The engine still computes this sequence, though nobody wants it any more. */
  abandon: boolean;
}

export class ChoiceStream {
  readonly #detokenizer: Detokenizer;
  readonly #scanner: StopScanner;
  readonly #maxTokens: number;
  #released = 0;
  #finish: FinishReason | null = null;

  constructor(tokens: TokenTexts, stops: StopSet, maxTokens: number) {
    this.#detokenizer = new Detokenizer(tokens);
    this.#scanner = new StopScanner(stops);
    this.#maxTokens = maxTokens;
  }

  get released(): number {
    return this.#released;
  }

  get finish(): FinishReason | null {
    return this.#finish;
  }

  /**
   * Takes up what was released elsewhere, whose text was sent. False where it can't be so: the ids of a choice without a finish hold a whole
   * stop string.
   */
  resume(ids: readonly number[], finish: FinishReason | null): boolean {
    invariant(this.#released === 0 && ids.length <= this.#maxTokens, 'a choice is taken up before it begins');
    this.#released = ids.length;
    this.#finish = finish;
    if (finish === null) for (const id of ids) this.#scanner.push(this.#detokenizer.push(id));
    return !this.#scanner.stopped;
  }

  /** `end` other than stop and length is the caller's affair: the whole request ends with it. */
  accept(output: Pick<SequenceOutput, 'ids' | 'position' | 'end'>): Released {
    invariant(this.#finish === null, 'a finished choice releases nothing');
    const position = this.#released;
    invariant(output.ids.length === 0 || output.position === position, 'output positions follow one another', {
      position: output.position,
      expected: position,
    });
    let text = '';
    let taken = 0;
    while (taken < output.ids.length && !this.#scanner.stopped)
      text += this.#scanner.push(this.#detokenizer.push(output.ids[taken++]!));
    this.#released += taken;
    invariant(this.#released <= this.#maxTokens, 'no choice passes its bound', { maxTokens: this.#maxTokens });
    const { end } = output;
    if (!this.#scanner.stopped && (end === 'stop' || end === 'length'))
      text += this.#scanner.push(this.#detokenizer.flush()) + this.#scanner.flush();
    if (this.#scanner.stopped) this.#finish = 'stop';
    else if (end === 'stop' || end === 'length') this.#finish = end;
    const abandon = this.#finish !== null && end === undefined;
    return { position, ids: output.ids.slice(0, taken), text, finish: this.#finish, abandon };
  }
}
