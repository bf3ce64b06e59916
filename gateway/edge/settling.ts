// How a relay at the edge ends its hold: with a bill, by a command; or by telling the tenant's object that it is left. Should even that word
// get lost with the invocation, the object's alarm looks after the hold by itself. Since that judges by the pool's word and by how long a
// request may be signed, it needs not know which requests are watched.
import type { Bill } from '../ledger/bill.ts';
import type { Settlement } from '../ledger/port.ts';
import { book, type LeftHold, type SettleMore, type Settling } from '../relay/settling.ts';
import type { LedgerClient } from './ledgerClient.ts';

type BookPorts = Parameters<typeof book>[0];

export class EdgeSettling implements Settling {
  /** Another isolate may ask the tenant's object next. */
  readonly settlesFirst = true;
  readonly #ports: BookPorts;
  readonly #ledger: LedgerClient;
  readonly #later: (work: Promise<unknown>) => void;

  constructor(ports: Omit<BookPorts, 'ledger'>, ledger: LedgerClient, later: (work: Promise<unknown>) => void) {
    this.#ports = { ...ports, ledger };
    this.#ledger = ledger;
    this.#later = later;
  }

  watch(): () => void {
    return () => {};
  }

  settle(tenant: string, requestId: string, bill: Bill, more?: SettleMore): Promise<Settlement> {
    return book(this.#ports, tenant, requestId, bill, more);
  }

  leave({ tenant, requestId }: LeftHold): void {
    this.#later(
      this.#ledger
        .object(tenant)
        .leave(requestId)
        .catch(() => {}), // the alarm comes all the same
    );
  }
}
