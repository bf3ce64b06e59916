// One running request: turns the engine's outputs for its choices into wire events, in two phases. `stage` prepares what a step
// releases; the caller journals it for all requests at once; then the staged events may leave. It never sends by itself.
import { invariant } from '../engine/invariant.ts';
import type { SequenceOutput, SequenceRequest } from '../engine/request.ts';
import { ChoiceStream } from './choiceStream.ts';
import { deadlineExceeded, engineLost, internalError, invalidRequest, type PoolError } from './errors.ts';
import { echoedToken, wireLogprob } from './logprobText.ts';
import type { Grant, Plan, PlannedChoice } from './plan.ts';
import { hasBegun } from './resume.ts';
import type { PoolModel } from './servedModel.ts';
import { StopSet } from './stopStrings.ts';
import type { Outcome, PoolEvent, TokenLogprob, Usage } from './wire/events.ts';

/** Prompt tokens per event: keeps one event's line small. */
const PROMPT_TOKENS_PER_EVENT = 256;

interface Choice extends PlannedChoice {
  stream: ChoiceStream;
  sequenceId: string | null;
  /** Nothing of it is left in the engine. */
  gone: boolean;
}

export interface Failure {
  error: PoolError;
  outcome: Outcome;
}

export class Generation {
  readonly model: PoolModel;
  readonly plan: Plan;
  readonly grant: Grant;
  readonly #choices: Choice[];
  readonly #bySequence = new Map<string, Choice>();
  readonly #cachedByPrompt: number[];
  #events: PoolEvent[] = [];
  #dirty = new Set<Choice>();
  readonly #drafts: { accepted: number; rejected: number; changed: boolean };
  #failure: Failure | null = null;

  /** Throws PoolError (400) for a plan that goes on behind a stop string. */
  constructor(model: PoolModel, plan: Plan, grant: Grant, sequences: ReadonlyMap<number, SequenceRequest>) {
    this.model = model;
    this.plan = plan;
    this.grant = grant;
    this.#cachedByPrompt = plan.prompts.map(() => 0);
    this.#drafts = { ...plan.billed.drafts, changed: false };
    const stops = new StopSet(plan.stops);
    this.#choices = plan.choices.map((planned) => {
      const sequenceId = sequences.get(planned.choice)?.id ?? null;
      const stream = new ChoiceStream(model.text, stops, planned.maxTokens);
      if (!stream.resume(planned.released, planned.finish))
        throw invalidRequest(
          'The ids hold a stop string: a choice that has one has a finish_reason.',
          `resume.choices.${planned.choice}.ids`,
        );
      return { ...planned, stream, sequenceId, gone: sequenceId === null };
    });
    for (const choice of this.#choices) if (choice.sequenceId !== null) this.#bySequence.set(choice.sequenceId, choice);
  }

  get failure(): Failure | null {
    return this.#failure;
  }

  get finished(): boolean {
    return this.#failure !== null || this.#choices.every((choice) => choice.stream.finish !== null);
  }

  get usage(): Usage {
    const { accepted, rejected } = this.#drafts;
    const { promptTokens, billed } = this.plan;
    const cached = this.#cachedByPrompt.reduce((sum, tokens) => sum + tokens, billed.cachedTokens);
    return {
      prompt_tokens: promptTokens,
      cached_tokens: Math.min(cached, promptTokens),
      completion_tokens: this.#choices.reduce((sum, choice) => sum + choice.stream.released, 0),
      ...(accepted + rejected > 0 && { accepted_prediction_tokens: accepted, rejected_prediction_tokens: rejected }),
    };
  }

  get sequenceIds(): Iterable<string> {
    return this.#bySequence.keys();
  }

  /** Sequences that the engine may still hold. */
  get liveSequences(): string[] {
    return this.#choices.flatMap((choice) => (choice.gone || choice.sequenceId === null ? [] : choice.sequenceId));
  }

  /** The exact prompt, the echoed text where no logprobs will bring it, and the end of choices that have nothing left to compute. */
  stageStart(): void {
    const { prompts, promptTokens, echo, told } = this.plan;
    this.#events.push({ type: 'prompt', prompts, prompt_tokens: promptTokens });
    const scored = new Set(this.#choices.filter((c) => c.promptLogprobs !== null).map((c) => c.prompt));
    if (echo)
      for (const [prompt, ids] of prompts.entries())
        if (!scored.has(prompt))
          this.#stagePromptTokens(
            prompt,
            ids.slice(told[prompt]).map((id) => echoedToken(this.model.text, id)),
          );
    for (const choice of this.#choices)
      if (choice.sequenceId === null && choice.stream.finish === null)
        this.#release(choice, { id: '', ids: [], position: 0, end: 'length' });
  }

  /** Takes one output of the engine. Returns sequences to cancel: the engine computes on what is already over. */
  stage(output: SequenceOutput): string[] {
    const choice = this.#bySequence.get(output.id);
    invariant(choice, 'an output belongs to a sequence of this request');
    if (output.end !== undefined) choice.gone = true;
    if (this.finished || choice.stream.finish !== null) return [];
    if (output.cachedTokens !== undefined) this.#noteCached(choice, output.cachedTokens);
    if (output.promptLogprobs)
      this.#stagePromptTokens(
        choice.prompt,
        output.promptLogprobs.map((position) => wireLogprob(this.model.text, position)),
      );
    if (output.ids.length > 0 || output.end === 'stop' || output.end === 'length') this.#release(choice, output);
    if (output.end === 'deadline') this.fail({ error: deadlineExceeded(), outcome: 'cancelled' });
    if (output.end === 'lost') this.fail({ error: engineLost(), outcome: 'failed' });
    if (output.end === 'failed' || output.end === 'cancelled')
      this.fail({ error: internalError(this.grant.requestId), outcome: 'failed' });
    return choice.stream.finish !== null && !choice.gone && choice.sequenceId !== null ? [choice.sequenceId] : [];
  }

  /** Ends the request; what was staged before still counts, the first failure stands. */
  fail(failure: Failure): void {
    if (!this.finished) this.#failure = failure;
  }

  /** Drops what was staged and could not be journalled: it was never released. */
  discard(failure: Failure): void {
    this.#events = [];
    this.#dirty.clear();
    this.#failure = failure;
  }

  /** Positions released since the last call: [choice, released in all, cached tokens in all]. */
  takeReleased(): [choice: number, released: number, cached: number][] {
    const { cached_tokens } = this.usage;
    const released = [...this.#dirty].map(({ choice, stream }): [number, number, number] => [
      choice,
      stream.released,
      cached_tokens,
    ]);
    this.#dirty.clear();
    return released;
  }

  /** Drafts of the request so far, and whether there have been any since the last call. */
  takeDrafts(): { accepted: number; rejected: number; changed: boolean } {
    const taken = { ...this.#drafts };
    this.#drafts.changed = false;
    return taken;
  }

  /** Events that may leave once their step is journalled. */
  takeEvents(): PoolEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** A prompt is billed once, so its cached part is that of its first choice alone, where that choice began. */
  #noteCached(choice: Choice, cachedTokens: number): void {
    if (choice.choice % (this.#choices.length / this.plan.prompts.length) !== 0) return;
    if (hasBegun(choice) || (choice.promptLogprobs !== null && this.plan.told[choice.prompt]! > 0)) return;
    this.#cachedByPrompt[choice.prompt] = cachedTokens;
    this.#dirty.add(choice);
  }

  /** Accepted drafts are the first of an output's ids; what a stop string cuts off is no part of the completion. */
  #noteDrafts({ accepted, rejected }: { accepted: number; rejected: number }, released: number): void {
    const kept = Math.min(accepted, released);
    this.#drafts.accepted += kept;
    this.#drafts.rejected += rejected + accepted - kept;
    this.#drafts.changed = true;
  }

  #release(choice: Choice, output: SequenceOutput): void {
    const { position, ids, text, finish } = choice.stream.accept(output);
    this.#dirty.add(choice);
    if (output.drafts) this.#noteDrafts(output.drafts, ids.length);
    const logprobs = output.logprobs?.slice(0, ids.length).map((one) => wireLogprob(this.model.text, one));
    invariant(this.plan.logprobs === null || ids.length === (logprobs?.length ?? 0), 'every id has its logprob', {
      ids: ids.length,
    });
    this.#events.push({
      type: 'delta',
      choice: choice.choice,
      position,
      ids,
      text,
      ...(logprobs && { logprobs }),
      ...(finish && { finish_reason: finish }),
      usage: this.usage,
    });
  }

  #stagePromptTokens(prompt: number, tokens: TokenLogprob[]): void {
    for (let i = 0; i < tokens.length; i += PROMPT_TOKENS_PER_EVENT)
      this.#events.push({ type: 'prompt_logprobs', prompt, tokens: tokens.slice(i, i + PROMPT_TOKENS_PER_EVENT) });
  }
}
