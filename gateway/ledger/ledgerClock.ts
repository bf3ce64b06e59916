// The latest second that a ledger has booked anything in (minuteWindow.ts). It is one for all tenants of a database, as the clock is: a second of
// its own for each would be a row of its own to write for each that asks.
import { int, type Sql, type Statement } from '../sql.ts';

export class LedgerClock {
  readonly #select: Statement;
  readonly #update: Statement;
  /** Unix seconds; null: not read yet. */
  #latest: number | null = null;

  constructor(db: Sql) {
    this.#select = db.prepare('SELECT latest_second FROM ledger_clock');
    this.#update = db.prepare('UPDATE ledger_clock SET latest_second = ?');
    db.onEnd((done) => {
      if (!done) this.#latest = null;
    });
  }

  /** 0: none. */
  get latest(): number {
    this.#latest ??= int(this.#select.get(), 'latest_second');
    return this.#latest;
  }

  /** Inside a transaction. */
  set latest(second: number) {
    this.#update.run(second);
    this.#latest = second;
  }
}
