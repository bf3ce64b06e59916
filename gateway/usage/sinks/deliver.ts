// Brings the bill to somebody else's system, batch by batch from a stored cursor. What is about to be sent is written down first, so that after
// a crash the same batch, with the same identifiers, is sent again: a sink that remembers them takes it once. A sink that has forgotten
// them by then would take it twice; that needs the operator's word.
//
//   cursor ─▶ pending: batch written down ─▶ sent ─▶ cursor moves on
import { z } from 'zod';

/** A line of the JSONL export. */
export const billedRow = z.object({
  cursor: z.int(),
  request_id: z.string(),
  project_id: z.string(),
  api_key_id: z.string(),
  model: z.string(),
  input_tokens: z.int(),
  input_cached_tokens: z.int(),
  output_tokens: z.int(),
  outcome: z.string(),
  price_id: z.string(),
  cost_usd: z.string(),
  reserved_at: z.string(),
  settled_at: z.string(),
});
export type BilledRow = z.output<typeof billedRow>;

export const delivery = z.object({
  /** Everything up to this row has been delivered. */
  cursor: z.int().min(0),
  /** A batch that was begun; whether it arrived isn't known. */
  pending: z.object({ upTo: z.int(), sinceMs: z.number() }).nullable(),
});
export type Delivery = z.output<typeof delivery>;

export interface Batch {
  /** Equal for the same batch, whenever it is sent. */
  id: string;
  rows: readonly BilledRow[];
}

export interface Sink {
  /** How long it knows what it has had; null: for ever. */
  dedupeWindowMs: number | null;
  /** Throws when it isn't sure that all of it arrived. */
  deliver(batch: Batch): Promise<void>;
}

export interface DeliveryPorts {
  sink: Sink;
  /** Rows behind `after`, not past `upTo`, oldest first, at most a batch. */
  rows(after: number, upTo: number | null): Promise<BilledRow[]>;
  read(): Promise<Delivery>;
  /** Durable when it resolves. */
  write(state: Delivery): Promise<void>;
  now(): number;
}

/** The batch that was begun last may have arrived, and the sink would no longer know it. */
export class DoubtfulDelivery extends Error {
  override readonly name = 'DoubtfulDelivery';
}

/** Everything that is there now; how many rows. `replay`: also a batch that the sink may have had and forgotten. */
export async function deliverAll(ports: DeliveryPorts, replay: boolean): Promise<number> {
  const { sink, now } = ports;
  for (let delivered = 0; ; ) {
    const { cursor, pending } = await ports.read();
    const age = pending ? now() - pending.sinceMs : 0;
    if (sink.dedupeWindowMs !== null && age >= sink.dedupeWindowMs && !replay)
      throw new DoubtfulDelivery(
        `Rows ${cursor + 1} to ${pending?.upTo} were sent ${Math.round(age / 3_600_000)} hours ago, and whether they arrived isn't known. The sink no longer recognises them: look there, then repeat with --replay, or move the stored cursor.`,
      );
    const rows = await ports.rows(cursor, pending?.upTo ?? null);
    const upTo = rows.at(-1)?.cursor;
    if (upTo === undefined) return delivered;
    await ports.write({ cursor, pending: { upTo, sinceMs: pending?.sinceMs ?? now() } });
    await sink.deliver({ id: `hearth-${cursor}-${upTo}`, rows });
    await ports.write({ cursor: upTo, pending: null });
    delivered += rows.length;
  }
}
