// What the journal is told of running requests: one start record when a request is taken, which holds what an earlier life released, then
// per step one record of all releases together, and one per request that ended with it.
import type { Generation } from './generation.ts';
import type { JournalRecord } from './receipts.ts';

/** A running request and the handle under which the journal knows it; null before it is taken. */
export interface Journalled {
  generation: Generation;
  handle: number | null;
}

export function startRecord(generation: Generation, handle: number, poolId: string, timeMs: number): JournalRecord {
  const { grant, plan, model } = generation;
  const { prompt_tokens, cached_tokens, completion_tokens: _, ...predictions } = generation.usage;
  return {
    kind: 'start',
    handle,
    receipt: {
      request_id: grant.requestId,
      pool_id: poolId,
      tenant: grant.tenant,
      model: model.id,
      prompt_tokens,
      cached_tokens,
      choices: plan.choices.map(({ released }) => released.length),
      ...predictions,
      outcome: 'running',
      started_at_ms: timeMs,
      updated_at_ms: timeMs,
    },
  };
}

/** Takes what the requests have staged; it must be appended before their events leave. */
export function stepRecords(touched: readonly Journalled[], timeMs: number): JournalRecord[] {
  const records: JournalRecord[] = [];
  const released: [number, number, number, number][] = [];
  const drafts: [number, number, number][] = [];
  for (const { generation, handle } of touched) {
    if (handle === null) continue;
    for (const [choice, total, cached] of generation.takeReleased()) released.push([handle, choice, total, cached]);
    const { accepted, rejected, changed } = generation.takeDrafts();
    if (changed) drafts.push([handle, accepted, rejected]);
    if (generation.finished)
      records.push({ kind: 'end', handle, outcome: generation.failure?.outcome ?? 'completed', timeMs });
  }
  if (released.length === 0) return records;
  return [{ kind: 'step', timeMs, released, ...(drafts.length > 0 && { drafts }) }, ...records];
}
