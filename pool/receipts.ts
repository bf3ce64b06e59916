// What this pool has released and not yet got acknowledged, per request: a pure state machine over journal records. The live process
// and the recovery after its death apply the same records, so they can't come to different bills. Totals are absolute, so that a
// record applied twice changes nothing.
import { z } from 'zod';
import { outcome, type Receipt, receipt } from './wire/events.ts';

const count = z.int().min(0);

export const journalRecord = z.discriminatedUnion('kind', [
  /** A request was accepted (or, in a snapshot, stood like this). `handle` names it in later records. */
  z.object({ kind: z.literal('start'), handle: count, receipt }),
  /**
   * Positions released in one step: [handle, choice, released in all, cached tokens in all]. `drafts`, where there were any: [handle, accepted
   * in all, rejected in all].
   */
  z.object({
    kind: z.literal('step'),
    timeMs: z.number(),
    released: z.array(z.tuple([count, count, count, count])),
    drafts: z.array(z.tuple([count, count, count])).optional(),
  }),
  /**
   * What an engine of another make told of a request: absolute figures in the place of those before, since its own usage corrects what was
   * counted on the way.
   */
  z.object({
    kind: z.literal('told'),
    handle: count,
    promptTokens: count,
    cachedTokens: count,
    choices: z.array(count),
    estimated: z.boolean(),
    timeMs: z.number(),
  }),
  z.object({ kind: z.literal('end'), handle: count, outcome, timeMs: z.number() }),
  z.object({ kind: z.literal('ack'), handles: z.array(count) }),
]);
export type JournalRecord = z.infer<typeof journalRecord>;

interface Entry {
  handle: number;
  receipt: Receipt;
}

export class ReceiptBook {
  readonly #byHandle = new Map<number, Entry>();
  readonly #byRequest = new Map<string, Entry>();
  /** Ended and not acknowledged, in the order of their ends. */
  readonly #ended = new Map<string, Entry>();
  #nextHandle = 0;

  get size(): number {
    return this.#byHandle.size;
  }

  get endedCount(): number {
    return this.#ended.size;
  }

  /** Handle for the next start record. */
  get nextHandle(): number {
    return this.#nextHandle;
  }

  handleOf(requestId: string): number | undefined {
    return this.#byRequest.get(requestId)?.handle;
  }

  /** A copy, so that nobody holds a bill that goes on changing. */
  get(requestId: string): Receipt | undefined {
    const entry = this.#byRequest.get(requestId);
    return entry && { ...entry.receipt, choices: [...entry.receipt.choices] };
  }

  /** Ended receipts, oldest end first, behind that of request `after` when it is still among them. */
  ended(after: string | undefined, limit: number): { receipts: Receipt[]; hasMore: boolean } {
    const receipts: Receipt[] = [];
    let skipping = after !== undefined && this.#ended.has(after);
    for (const [requestId, entry] of this.#ended) {
      if (skipping) {
        skipping = requestId !== after;
        continue;
      }
      if (receipts.length === limit) return { receipts, hasMore: true };
      receipts.push({ ...entry.receipt, choices: [...entry.receipt.choices] });
    }
    return { receipts, hasMore: false };
  }

  /** Requests among `requestIds` that have ended here: what an acknowledgement may remove. */
  endedHandles(requestIds: readonly string[]): number[] {
    const handles = requestIds.flatMap((id) => this.#ended.get(id)?.handle ?? []);
    return [...new Set(handles)];
  }

  /** Handles that still run. After a restart these are the lost ones. */
  runningHandles(): number[] {
    return [...this.#byHandle.values()].filter((e) => e.receipt.outcome === 'running').map((e) => e.handle);
  }

  /** Records that rebuild this state from nothing, ended ones in their order. */
  snapshot(): JournalRecord[] {
    const running = [...this.#byHandle.values()].filter((entry) => entry.receipt.outcome === 'running');
    return [...this.#ended.values(), ...running].map(({ handle, receipt }) => ({ kind: 'start', handle, receipt }));
  }

  apply(record: JournalRecord): void {
    switch (record.kind) {
      case 'start':
        this.#start(record.handle, record.receipt);
        return;
      case 'step':
        for (const [handle, choice, released, cached] of record.released)
          this.#release(handle, choice, released, cached, record.timeMs);
        for (const [handle, accepted, rejected] of record.drafts ?? []) this.#draft(handle, accepted, rejected);
        return;
      case 'told':
        this.#tell(record);
        return;
      case 'end':
        this.#end(record.handle, record.outcome, record.timeMs);
        return;
      case 'ack':
        for (const handle of record.handles) this.#forget(handle);
    }
  }

  #start(handle: number, receipt: Receipt): void {
    const earlier = this.#byRequest.get(receipt.request_id);
    if (earlier) this.#forget(earlier.handle); // the request goes on, or its acknowledgement is damaged: the id was free to be used again
    const entry: Entry = { handle, receipt: { ...receipt, choices: [...receipt.choices] } };
    this.#byHandle.set(handle, entry);
    this.#byRequest.set(receipt.request_id, entry);
    if (receipt.outcome !== 'running') this.#ended.set(receipt.request_id, entry);
    this.#nextHandle = Math.max(this.#nextHandle, handle + 1);
  }

  #release(handle: number, choice: number, released: number, cached: number, timeMs: number): void {
    const receipt = this.#byHandle.get(handle)?.receipt;
    const before = receipt?.choices[choice];
    if (!receipt || before === undefined) return; // its start record is damaged: nothing to bill it on
    receipt.choices[choice] = Math.max(before, released);
    receipt.cached_tokens = Math.max(receipt.cached_tokens, cached);
    receipt.updated_at_ms = timeMs;
  }

  #draft(handle: number, accepted: number, rejected: number): void {
    const receipt = this.#byHandle.get(handle)?.receipt;
    if (!receipt) return;
    receipt.accepted_prediction_tokens = Math.max(receipt.accepted_prediction_tokens ?? 0, accepted);
    receipt.rejected_prediction_tokens = Math.max(receipt.rejected_prediction_tokens ?? 0, rejected);
  }

  #tell({
    handle,
    promptTokens,
    cachedTokens,
    choices,
    estimated,
    timeMs,
  }: Extract<JournalRecord, { kind: 'told' }>): void {
    const receipt = this.#byHandle.get(handle)?.receipt;
    if (!receipt || receipt.choices.length !== choices.length) return; // its start record is damaged
    const { estimated: _before, ...rest } = receipt;
    const told = {
      prompt_tokens: promptTokens,
      cached_tokens: cachedTokens,
      choices: [...choices],
      updated_at_ms: timeMs,
    };
    this.#byHandle.get(handle)!.receipt = { ...rest, ...told, ...(estimated && { estimated: true as const }) };
  }

  #end(handle: number, result: Receipt['outcome'], timeMs: number): void {
    const entry = this.#byHandle.get(handle);
    if (entry?.receipt.outcome !== 'running') return; // the first end counts
    entry.receipt.outcome = result;
    entry.receipt.updated_at_ms = timeMs;
    this.#ended.set(entry.receipt.request_id, entry);
  }

  #forget(handle: number): void {
    const entry = this.#byHandle.get(handle);
    if (!entry) return;
    this.#byHandle.delete(handle);
    this.#byRequest.delete(entry.receipt.request_id);
    this.#ended.delete(entry.receipt.request_id);
  }
}
