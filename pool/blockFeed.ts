// What the prefix index tells, on its way from the engine thread to the HTTP thread: gathered while a step runs, sent in one message
// with it. Digests and subscribers are the other side's, so that a step pays for no more than copying 16 numbers per block.
import { BLOCK_TOKENS } from '../engine/modelRunner.ts';
import type { BlockListener } from '../engine/tiers/port.ts';

export type BlockChange =
  | { kind: 'stored'; block: number; parent: number; namespace: string; extra: string }
  | { kind: 'removed'; block: number };

export interface BlockChanges {
  changes: BlockChange[];
  /** 16 of each stored block, in their order. */
  tokens: Int32Array<ArrayBuffer>;
}

export class BlockFeed implements BlockListener {
  #changes: BlockChange[] = [];
  #tokens = new Int32Array(64 * BLOCK_TOKENS);
  #used = 0;

  stored(block: number, parent: number, namespace: string, extra: string, tokens: Int32Array): void {
    if (this.#used + BLOCK_TOKENS > this.#tokens.length) {
      const larger = new Int32Array(this.#tokens.length * 2);
      larger.set(this.#tokens);
      this.#tokens = larger;
    }
    this.#tokens.set(tokens.subarray(0, BLOCK_TOKENS), this.#used);
    this.#used += BLOCK_TOKENS;
    this.#changes.push({ kind: 'stored', block, parent, namespace, extra });
  }

  removed(block: number): void {
    this.#changes.push({ kind: 'removed', block });
  }

  /** What changed since the last time; null: nothing. */
  take(): BlockChanges | null {
    if (this.#changes.length === 0) return null;
    const taken = { changes: this.#changes, tokens: this.#tokens.slice(0, this.#used) };
    this.#changes = [];
    this.#used = 0;
    return taken;
  }
}
