// What pools have to say about requests that nobody watches any more: one by one for open holds, or everything that ended and was not
// acknowledged. A receipt is acknowledged, and so forgotten by its pool, only after it is booked.
import type { Receipt } from '../../pool/wire/events.ts';
import { type Bill, billOf } from '../ledger/bill.ts';
import type { LedgerEntry, SettleCommand, Settlement } from '../ledger/port.ts';
import type { Log } from '../log.ts';
import type { PoolRegistry, PoolState } from './poolRegistry.ts';
import { PoolRequestError } from './poolRequest.ts';
import { type HoldEvidence, resolveHold } from './resolve.ts';
import type { LeftHold } from './settling.ts';

/** Receipts per question, and acknowledgements per answer. */
const RECEIPT_PAGE = 500;
/** Pages of receipts per pool and round, so that one pool's backlog doesn't keep the others waiting. */
const PAGES_PER_ROUND = 20;

export interface Collecting {
  settle: (tenant: string, requestId: string, bill: Bill, word: SettleCommand['word']) => Promise<Settlement>;
  /** It stays at its pool for now: somebody else is about to say how its request ends. */
  leave: (receipt: Receipt) => boolean;
  log: Log;
}

/** Books everything that has ended at a pool. A pool that doesn't answer is asked again by the next round. */
export async function collectReceipts(pool: PoolState, { settle, leave, log }: Collecting): Promise<void> {
  const { id } = pool.client.target;
  try {
    let after: string | undefined;
    for (let page = 0; page < PAGES_PER_ROUND; page++) {
      const { receipts, has_more } = await pool.client.receipts(RECEIPT_PAGE, after);
      const ended = receipts.filter((receipt) => !leave(receipt));
      after = receipts.findLast(leave)?.request_id ?? after;
      for (const receipt of ended) {
        const { tenant, request_id: request } = receipt;
        const settlement = await settle(tenant, request, billOf(receipt), { pool: id });
        if (settlement === 'unknown') log.warn('receipt_unknown', { pool: id, request });
      }
      if (ended.length > 0) await pool.client.acknowledge(ended.map((receipt) => receipt.request_id));
      if (!has_more) return;
    }
  } catch (error) {
    if (!(error instanceof PoolRequestError)) throw error;
  }
}

/** Lets the pools forget what is booked. One that doesn't hear it keeps its receipts until they are collected. */
export async function acknowledgeBooked(
  registry: PoolRegistry,
  entries: readonly Pick<LedgerEntry, 'pool' | 'requestId'>[],
  log: Log,
): Promise<void> {
  for (const [id, mine] of Map.groupBy(entries, ({ pool }) => pool))
    try {
      await registry.byId(id)?.client.acknowledge(mine.map(({ requestId }) => requestId));
    } catch (error) {
      if (!(error instanceof PoolRequestError)) throw error;
      log.warn('acknowledge_failed', { pool: id, receipts: mine.length });
    }
}

/** The bill of a hold by its pool's word; `open`: it may still run, or be accepted. */
export async function askAboutHold(
  pool: PoolState | undefined,
  hold: LeftHold,
  evidence: Pick<HoldEvidence, 'signedBeforeMs' | 'nowMs' | 'goesOnWithinMs'>,
): Promise<Bill | 'open' | 'unreachable'> {
  if (!pool) return 'unreachable';
  try {
    const receipt = (await pool.client.receiptOf(hold.requestId)) ?? null;
    const poolStartedAtMs = pool.status?.started_at_ms ?? null;
    const known = { receipt, poolStartedAtMs, deadlineMs: hold.deadlineMs, ...evidence };
    const bill = resolveHold({ ...known, fenced: false });
    if (bill || receipt || evidence.goesOnWithinMs !== null) return bill ?? 'open';
    // Nobody signs it any more: what keeps the hold is only that it may still be on its way.
    return resolveHold({ ...known, fenced: await pool.client.fence(hold.requestId) }) ?? 'open';
  } catch (error) {
    if (error instanceof PoolRequestError) return 'unreachable';
    throw error;
  }
}
