// Do the books agree? What pools still keep in their journals against what was billed for it. A receipt that has ended is settled within
// moments, so a difference that stays is a fault: one of these sides has lost or made up tokens. Pure.
import type { Receipt } from '../../pool/wire/events.ts';
import { billOf } from '../ledger/bill.ts';
import { requestOf } from '../ledger/idempotency.ts';
import type { LedgerEntry } from '../ledger/port.ts';
import type { Tokens } from '../prices/price.ts';

export interface Difference {
  requestId: string;
  pool: string;
  /** `unsettled`: the journal knows a request that has no row. `differs`: the row has other tokens, tenant, model or pool. */
  kind: 'unsettled' | 'differs';
  receipt: Tokens;
  /** null: there is none. */
  entry: Tokens | null;
}

export function differences(receipts: readonly Receipt[], entries: readonly LedgerEntry[]): Difference[] {
  const byRequest = new Map(entries.map((entry) => [entry.requestId, entry]));
  return receipts.flatMap((receipt): Difference[] => {
    if (receipt.outcome === 'running') return [];
    const entry = byRequest.get(receipt.request_id);
    const billed = billOf(receipt);
    const about = { requestId: receipt.request_id, pool: receipt.pool_id, receipt: tokensOf(billed) };
    if (!entry) return [{ ...about, kind: 'unsettled' as const, entry: null }];
    if (isLeft(receipt, entry)) return [];
    // A later attempt of a request under an idempotency key has a row of what its earlier ones were not billed.
    const agrees = requestOf(entry.requestId) === entry.requestId ? isEqual : isPart;
    const same =
      entry.tenant === receipt.tenant &&
      entry.model === receipt.model &&
      entry.pool === receipt.pool_id &&
      agrees(entry.inputTokens, billed.inputTokens) &&
      agrees(entry.cachedInputTokens, billed.cachedInputTokens) &&
      agrees(entry.outputTokens, billed.outputTokens);
    return same ? [] : [{ ...about, kind: 'differs' as const, entry: tokensOf(entry) }];
  });
}

/** It failed at this pool and went on at another, whose word the row is. */
function isLeft(receipt: Receipt, entry: LedgerEntry): boolean {
  const { tenant, model, outcome, pool_id } = receipt;
  return pool_id !== entry.pool && outcome !== 'completed' && tenant === entry.tenant && model === entry.model;
}

const isEqual = (billed: number, released: number): boolean => billed === released;
const isPart = (billed: number, released: number): boolean => billed <= released;

function tokensOf({ inputTokens, cachedInputTokens, outputTokens }: Tokens): Tokens {
  return { inputTokens, cachedInputTokens, outputTokens };
}
