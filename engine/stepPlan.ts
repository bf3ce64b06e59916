// What a step is: who computes how many tokens of what. Dividing a step's budget is a pure function of counts: one token to each decode,
// then what is left to prompts, the least served tenant first; drafts (speculation/) take of the rest. A plan may outlive what it was made for; `valid` says of a chunk
// whether anybody still wants its result.
import type { FairQueue } from './fairQueue.ts';
import { nextChunk, type Sequence } from './sequence.ts';

export interface StepLimits {
  /** Sequences running at once. */
  maxRunning: number;
  /** Tokens, and wanted logits rows, of one step. */
  maxStepTokens: number;
  maxStepLogits: number;
}

export interface PlannedChunk {
  sequence: Sequence;
  /** Of which run of the sequence: a chunk planned before a preemption is void after it. */
  run: number;
  /** Position of its first token. */
  start: number;
  /** Tokens, drafts included. */
  count: number;
  /** Offsets into the chunk whose logits are wanted. */
  rows: readonly number[];
  /** Whether its last row draws the sequence's next token. With drafts, each row draws one. */
  draws: boolean;
  /** Guesses at the tokens behind its first, which is known; [count - 1], or empty. */
  draft: Int32Array;
}

export const NO_DRAFT = new Int32Array(0);

export interface Preparation {
  /** Ended by their deadline, now. */
  expired: Sequence[];
  /** Admitted, with `load` saying which of their blocks are to be brought from the tiers. */
  loads: Sequence[];
}

export interface StepPlan extends Preparation {
  chunks: PlannedChunk[];
}

/** Gives the running sequences what the limits allow, and counts it as scheduled. */
export function divide(running: readonly Sequence[], queue: FairQueue, limits: StepLimits): PlannedChunk[] {
  const chunks: PlannedChunk[] = [];
  const prompts: Sequence[] = [];
  let tokens = limits.maxStepTokens;
  let rows = limits.maxStepLogits;
  let after = 0;
  for (const sequence of running) if (sequence.state === 'running' && sequence.pending > 0) after += 1;
  const give = (sequence: Sequence): void => {
    // A prompt whose every position is scored leaves one row to each sequence after it.
    after -= 1;
    const { count, rows: wanted } = nextChunk(sequence, tokens, Math.max(0, rows - after));
    if (count === 0) return;
    const { run, scheduled: start, expectedLength } = sequence;
    const draws = start + count === expectedLength && wanted.at(-1) === count - 1 && sequence.request.maxTokens > 0;
    chunks.push({ sequence, run, start, count, rows: wanted, draws, draft: NO_DRAFT });
    sequence.scheduled += count;
    if (draws) sequence.drawn += 1;
    tokens -= count;
    rows -= wanted.length;
  };
  for (const sequence of running) {
    if (sequence.state !== 'running') continue;
    const { pending } = sequence;
    if (pending === 1) give(sequence);
    else if (pending > 1) prompts.push(sequence);
  }
  if (prompts.length > 1) prompts.sort((a, b) => queue.compare(a, b, limits.maxStepTokens));
  for (const sequence of prompts) give(sequence);
  return chunks;
}

/** Whether the chunk's sequence still is in the run that the chunk was planned for. */
export function valid({ sequence, run }: PlannedChunk): boolean {
  return sequence.run === run && sequence.state === 'running';
}

/** Whether a step is to compute something of it. */
export function inStep(sequence: Sequence): boolean {
  return sequence.scheduled > sequence.computed;
}
