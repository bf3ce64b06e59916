// Receipts over HTTP: the gateway lists what has ended, books it, and acknowledges. Listing changes nothing, acknowledging twice
// neither, so that both can be repeated after a lost answer.
import { z } from 'zod';
import type { Arrivals } from './arrivals.ts';
import { notFound } from './errors.ts';
import type { Journal } from './journal.ts';
import { parseQuery } from './validate.ts';
import type { Receipt } from './wire/events.ts';

/** Receipts per answer: about 300 kB. */
const MAX_PER_PAGE = 1000;

const query = z.object({
  request_id: z.string().max(128).optional(),
  after: z.string().max(128).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_PER_PAGE).default(100),
});

/** With `request_id`: that one, waiting, running or ended; 404 when this pool knows nothing of it. Otherwise a page of ended ones. */
export function listReceipts(
  journal: Journal,
  arrivals: Arrivals,
  url: URL,
): { receipts: Receipt[]; has_more: boolean } {
  const { request_id, after, limit } = parseQuery(query, url);
  if (request_id === undefined) {
    const { receipts, hasMore } = journal.book.ended(after, limit);
    return { receipts, has_more: hasMore };
  }
  const journalled = journal.book.get(request_id);
  // One that waits here to go on has an older receipt, which is not the last word.
  const receipt = journalled?.outcome === 'running' ? journalled : (arrivals.receiptOf(request_id) ?? journalled);
  if (!receipt) throw notFound(`There is no receipt of request ${request_id}.`, 'not_found', 'request_id');
  return { receipts: [receipt], has_more: false };
}

/** True: from now on this pool takes no such request, and it has none. */
export function fence(journal: Journal, arrivals: Arrivals, requestId: string): boolean {
  return !journal.book.get(requestId) && arrivals.fence(requestId);
}

export function acknowledge(journal: Journal, requestIds: readonly string[]): { acknowledged: number } {
  const handles = journal.book.endedHandles(requestIds);
  if (handles.length > 0) journal.append([{ kind: 'ack', handles }]);
  return { acknowledged: handles.length };
}
