// What both hosts' upkeep does for a ledger in one round.
import type { LedgerStore } from './port.ts';

/** So many steps at most, among requests: each is a work like theirs. False: there is more to do. */
export async function tendLedger(ledger: Pick<LedgerStore, 'tend'>, steps: number): Promise<boolean> {
  for (let step = 0; step < steps; step++) if (!(await ledger.tend())) return true;
  return false;
}
