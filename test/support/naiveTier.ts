// A tier as a plain map: what a block holds, by everything that determines it. It outlives the arena and the block manager, so a fuzz can
// lose both and go on with what was offloaded.

export interface BlockContents {
  /** Per position: a hash of the whole history, and whose it is. */
  history: Int32Array;
  writer: readonly string[];
}

/** Records kept: few, so that some of what is looked for is gone. */
const MOST_RECORDS = 48;

export class NaiveTier {
  readonly #records = new Map<string, BlockContents>();

  /** `tokens`: from the root up to the block's end. */
  put(namespace: string, extra: string, tokens: readonly number[], contents: BlockContents): void {
    const key = keyOf(namespace, extra, tokens);
    this.#records.delete(key);
    this.#records.set(key, contents);
    const [oldest] = this.#records.keys();
    if (this.#records.size > MOST_RECORDS && oldest !== undefined) this.#records.delete(oldest);
  }

  get(namespace: string, extra: string, tokens: readonly number[]): BlockContents | undefined {
    return this.#records.get(keyOf(namespace, extra, tokens));
  }
}

function keyOf(namespace: string, extra: string, tokens: readonly number[]): string {
  return `${namespace}|${extra}|${tokens.join()}`;
}
