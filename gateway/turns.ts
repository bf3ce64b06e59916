// Work on one thing, one after another: the next begins when the one before has ended, however it ended.

export interface Turns {
  run(key: string, work: () => Promise<void>): Promise<void>;
}

/** For a process that keeps its promises. As many keys are remembered as have work. */
export class SerialTurns implements Turns {
  readonly #last = new Map<string, Promise<void>>();

  run(key: string, work: () => Promise<void>): Promise<void> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const mine = before.then(work);
    const ended = mine
      .catch(() => {})
      .finally(() => {
        if (this.#last.get(key) === ended) this.#last.delete(key);
      });
    this.#last.set(key, ended);
    return mine;
  }
}
