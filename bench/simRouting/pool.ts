// A pool as the simulation of routing has it: prompts one after another at a given rate, less what its prefix cache holds (the engine's own block
// manager and eviction), then output at a pace that doesn't hold up the next prompt.
import { BlockManager } from '../../engine/blockManager.ts';
import { createEvictionPolicy } from '../../engine/eviction/policies.ts';
import { BLOCK_TOKENS } from '../../engine/modelRunner.ts';

export interface PoolSpeed {
  /** Of prompts, what is not cached. */
  tokensPerSecond: number;
  /** From one output token of a request to its next. */
  msPerOutputToken: number;
}

export interface Served {
  hitBlocks: number;
  /** Between arrival and the beginning of the prompt, and until the first token. */
  waitMs: number;
  firstTokenMs: number;
}

export class SimulatedPool {
  readonly id: string;
  readonly #speed: PoolSpeed;
  readonly #blockTokens: number;
  readonly #manager: BlockManager;
  #freeAtMs = 0;
  /** When each of its requests ends. */
  #ends: number[] = [];

  constructor(id: string, capacityBlocks: number, blockTokens: number, speed: PoolSpeed) {
    this.id = id;
    this.#speed = speed;
    this.#blockTokens = blockTokens;
    this.#manager = new BlockManager(capacityBlocks, createEvictionPolicy('default', capacityBlocks));
  }

  load(nowMs: number): number {
    this.#ends = this.#ends.filter((end) => end > nowMs);
    return this.#ends.length;
  }

  serve(nowMs: number, blocks: Int32Array, outputTokens: number): Served {
    const hitBlocks = this.#cache(blocks);
    const startMs = Math.max(nowMs, this.#freeAtMs);
    const tokens = (blocks.length - hitBlocks) * this.#blockTokens;
    this.#freeAtMs = startMs + (1000 * tokens) / this.#speed.tokensPerSecond;
    this.#ends.push(this.#freeAtMs + outputTokens * this.#speed.msPerOutputToken);
    return { hitBlocks, waitMs: startMs - nowMs, firstTokenMs: this.#freeAtMs - nowMs };
  }

  /** Leading blocks that its cache has at this moment. */
  cached(blocks: Int32Array): number {
    const tokens = this.#tokensOf(blocks);
    return this.#manager.cachedPrefix('', tokens, tokens.length) / BLOCK_TOKENS;
  }

  /** Blocks that its cache has in all. */
  get held(): number {
    return this.#manager.capacityBlocks - this.#manager.freeBlocks;
  }

  /** As many of a prompt as fit, each block as tokens of its number. */
  #tokensOf(blocks: Int32Array): Int32Array {
    const held = Math.min(blocks.length, this.#manager.capacityBlocks);
    const tokens = new Int32Array(held * BLOCK_TOKENS);
    for (let i = 0; i < held; i++) tokens.fill(blocks[i]!, i * BLOCK_TOKENS, (i + 1) * BLOCK_TOKENS);
    return tokens;
  }

  /** Blocks that were there; all that fit are afterwards. */
  #cache(blocks: Int32Array): number {
    const tokens = this.#tokensOf(blocks);
    const positions = tokens.length;
    const admission = { scope: '', tokens, positions, maxCached: positions, capacityPositions: positions };
    const table = this.#manager.admit({ ...admission, headroomBlocks: 0 });
    if (!table) throw new Error('an idle cache has room for a request of at most its size');
    const hits = table.reused;
    this.#manager.publish(table, tokens, positions);
    this.#manager.release(table);
    return hits;
  }
}
