// One engine of the engine thread, with what the thread keeps beside it: what it declares public, what its index has told, and the
// warm-up that it went through.
import type { Engine } from '../engine/engine.ts';
import { invariant } from '../engine/invariant.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import type { PublicPrefixes } from '../engine/publicPrefixes.ts';
import { GREEDY, type SequenceOutput } from '../engine/request.ts';
import type { BlockFeed } from './blockFeed.ts';
import type { EnginePrefixes } from './publicPrefixes.ts';

/** Prompt of the warm-up: long enough for every kernel variant, short enough for seconds on a software adapter. */
const WARM_UP_TOKENS = 24;

export interface Served {
  /** The engine's name. */
  id: string;
  runner: ModelRunner;
  engine: Engine;
  feed: BlockFeed;
  publicPrefixes: PublicPrefixes;
  /** Ids of public prefixes by model. */
  declared: Map<string, ReadonlySet<string>>;
  /** Set while the warm-up's outputs are awaited; nothing of it leaves the thread. */
  warming: ((outputs: SequenceOutput[]) => void) | null;
}

export class WarmUpFailed extends Error {
  override readonly name = 'WarmUpFailed';
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

/** One real token through the whole engine, so that the first client doesn't pay for what is lazy in a driver. */
export async function warmUp(served: Served): Promise<void> {
  const { runner, engine } = served;
  const length = Math.min(WARM_UP_TOKENS, runner.contextLength - 2, runner.vocabSize);
  const ended = new Promise<string>((resolve) => {
    served.warming = (outputs) => {
      for (const output of outputs) if (output.end) resolve(output.end);
    };
  });
  const refusal = engine.submit({
    id: 'warm-up/0',
    choice: 0,
    tenant: 'warm-up',
    weight: 1,
    priority: 0,
    account: { name: 'warm-up', weight: 1, floorShare: 0 },
    cache: null,
    promptIds: Int32Array.from({ length }, (_, i) => i),
    maxTokens: 2,
    sampling: GREEDY,
    eosIds: [],
    logprobs: null,
    promptLogprobs: null,
    deadlineMs: Number.MAX_SAFE_INTEGER,
  });
  invariant(!refusal, 'an idle engine takes the warm-up', { code: refusal?.code ?? null });
  const end = await ended;
  served.warming = null;
  if (end !== 'length') throw new WarmUpFailed(`the warm-up of ${served.id} ended as ${end}; run: npm run doctor`);
}
