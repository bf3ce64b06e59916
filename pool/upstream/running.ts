// A running request of a pool whose engine is a foreign server: what is known of it, and what becomes of it for the journal and for the
// gateway. Pure, but for the tally that counts.
import type { PoolError } from '../errors.ts';
import type { EventSink } from '../eventStream.ts';
import type { Failure } from '../generation.ts';
import type { Grant, Inference } from '../plan.ts';
import type { JournalRecord } from '../receipts.ts';
import type { PoolEvent, WireError } from '../wire/events.ts';
import { readChunk } from './chunk.ts';
import { errorInStream } from './errors.ts';
import type { Make } from './make.ts';
import type { Tally } from './tally.ts';
import type { Translated, UpstreamModel } from './translate.ts';

export interface Running {
  model: UpstreamModel;
  inference: Inference;
  asked: Translated;
  grant: Grant;
  sink: EventSink;
  tally: Tally;
  startedAtMs: number;
  /** As the journal names it; null: not begun. */
  handle: number | null;
  /** The `prompt` event has left. */
  begun: boolean;
  sawOutput: boolean;
  failure: Failure | null;
  ended: boolean;
  /** Ends the connection to the upstream. */
  stop: AbortController;
  deadline: NodeJS.Timeout;
}

export function startRecord(
  { model, grant, tally, startedAtMs: timeMs }: Running,
  handle: number,
  poolId: string,
): JournalRecord {
  const receipt = {
    ...{ request_id: grant.requestId, pool_id: poolId, tenant: grant.tenant, model: model.id },
    ...{ prompt_tokens: 0, cached_tokens: 0, choices: [...tally.choices] },
    ...{ outcome: 'running' as const, started_at_ms: timeMs, updated_at_ms: timeMs },
  };
  return { kind: 'start', handle, receipt };
}

/** All that is counted so far, in the place of what was. */
export function toldRecord({ tally, handle }: Running, timeMs: number): JournalRecord {
  const { prompt_tokens, cached_tokens } = tally.usage;
  return {
    ...{ kind: 'told', handle: handle ?? 0, promptTokens: prompt_tokens, cachedTokens: cached_tokens },
    ...{ choices: [...tally.choices], estimated: tally.estimated, timeMs },
  };
}

/** What the gateway is told of one event of the upstream's stream. Throws UpstreamFailed, or the PoolError that the upstream tells there. */
export function eventsOf(make: Make, { tally, inference, asked }: Running, data: string): PoolEvent[] {
  const chunk = readChunk(make, inference.kind, data, asked.topLogprobs);
  if (chunk.error !== null) throw errorInStream(chunk.error);
  return tally.accept(chunk).flatMap(({ count, ids, finish, logprobs, choice, position, text }): PoolEvent[] => {
    if (count === 0 && text === '' && finish === null) return [];
    const event = {
      ...{ type: 'delta' as const, choice, position, ids, text },
      ...(ids.length !== count && { count }),
      ...(logprobs && { logprobs }),
      ...(finish && { finish_reason: finish }),
      usage: tally.usage,
    };
    return [event];
  });
}

/** What was begun for a client can't go on anywhere else: nobody knows the ids, nor has the bits. What was not may begin there. */
export function lastWord({ wire }: PoolError, { begun }: Running): WireError {
  const { resumable: _, ...own } = wire;
  return begun ? own : wire;
}
