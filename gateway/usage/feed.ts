// Carries settled requests from a ledger's outbox to the usage store. At least once by construction; the store makes it once.
import { type LedgerEntry, type LedgerStore, MAX_LEDGER_PAGE } from '../ledger/port.ts';
import type { UsageStore } from './port.ts';

/** Moves everything that is in the outbox now; how many entries. `stored` follows each page before the outbox forgets it. */
export async function feedUsage(
  ledger: LedgerStore,
  usage: UsageStore,
  stored: (entries: readonly LedgerEntry[]) => Promise<void> = async () => {},
): Promise<number> {
  for (let fed = 0; ; ) {
    const entries = await ledger.outbox(MAX_LEDGER_PAGE);
    const last = entries.at(-1);
    if (!last) return fed;
    await usage.append(entries);
    await stored(entries);
    await ledger.acknowledgeOutbox(last.sequence);
    fed += entries.length;
  }
}
