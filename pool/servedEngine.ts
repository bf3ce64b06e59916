// One engine of the engine thread, with what the thread keeps beside it: what it declares public, what its index has told, and the
// token by which it shows that it computes.
import type { Engine } from '../engine/engine.ts';
import { invariant } from '../engine/invariant.ts';
import type { PublicPrefixes } from '../engine/publicPrefixes.ts';
import { GREEDY, type SequenceOutput } from '../engine/request.ts';
import type { SleepingRunner } from '../engine/sleepingRunner.ts';
import type { BlockFeed } from './blockFeed.ts';
import type { EnginePrefixes } from './publicPrefixes.ts';

/** Of the sequence by which an engine shows that it computes. */
export const PROOF_ID = 'proof/0';

export interface Served {
  /** The engine's name. */
  id: string;
  runner: SleepingRunner;
  engine: Engine;
  feed: BlockFeed;
  publicPrefixes: PublicPrefixes;
  /** Ids of public prefixes by model. */
  declared: Map<string, ReadonlySet<string>>;
  /** Set while a real token is awaited: takes its outputs, and gives back those of others. */
  proving: ((outputs: SequenceOutput[]) => SequenceOutput[]) | null;
}

/** An engine that should compute doesn't. */
export class NoRealToken extends Error {
  override readonly name = 'NoRealToken';
  readonly code = 'warm_up_failed';
}

/** A model's prefixes in place of those that it had. Models that share an engine share what is public, too. */
export function declare(
  { publicPrefixes, declared }: Pick<Served, 'publicPrefixes' | 'declared'>,
  { model, sealKey, prefixes }: { model: string } & EnginePrefixes,
): void {
  publicPrefixes.sealKey = sealKey;
  const keep = new Set(prefixes.map(({ id }) => id));
  for (const id of declared.get(model) ?? []) if (!keep.has(id)) publicPrefixes.withdraw(id);
  for (const { id, tokens } of prefixes) {
    const refusal = publicPrefixes.declare(id, tokens);
    invariant(!refusal, 'the wire bounds public prefixes no less than the engine does', { refusal });
  }
  declared.set(model, keep);
}

/**
 * One real token through the whole engine: it computes, and the next client doesn't pay for what is lazy in a driver. It is nobody's, and on no
 * bill. The prompt has at most so many tokens. Throws NoRealToken.
 */
export async function realToken(served: Served, { prompt, output }: { prompt: number; output: number }): Promise<void> {
  const { id, runner, engine } = served;
  const length = Math.min(prompt, runner.contextLength - output, runner.vocabSize);
  const ended = new Promise<string>((resolve) => {
    served.proving = (outputs) => {
      for (const told of outputs) if (told.id === PROOF_ID && told.end) resolve(told.end);
      return outputs.filter((told) => told.id !== PROOF_ID);
    };
  });
  const refusal = engine.submit({
    id: PROOF_ID,
    choice: 0,
    tenant: 'proof',
    weight: 1,
    priority: 0,
    account: { name: 'proof', weight: 1, floorShare: 0 },
    cache: null,
    promptIds: Int32Array.from({ length }, (_, i) => i),
    maxTokens: output,
    sampling: GREEDY,
    eosIds: [],
    logprobs: null,
    promptLogprobs: null,
    deadlineMs: Number.MAX_SAFE_INTEGER,
  });
  // An engine that is full computes: its steps show it.
  const end = refusal ? 'length' : await ended;
  served.proving = null;
  if (end !== 'length') throw new NoRealToken(`the warm-up of ${id} ended as ${end}; run: npm run doctor`);
}
