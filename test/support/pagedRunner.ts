// A model runner without a model, for simulations: its "KV" is the token and the position written into the slots of simulated
// paged blocks, and a row of logits is a hash of the whole history as it is read back through the block table. A wrong table, a stale
// or overwritten block, a wrong position or a missing token therefore changes the output. It also checks what the engine promises.
// Tokens are drawn by the definition of sampling, which the kernels are tested against.
import { invariant } from '../../engine/invariant.ts';
import { BLOCK_TOKENS, type ModelRunner, type StepChunk, type StepResult } from '../../engine/modelRunner.ts';
import { wishesOf } from '../../engine/rowWords.ts';
import type { BlockTransfer } from '../../engine/tiers/port.ts';
import { referenceAnswer } from './referenceAnswer.ts';

export interface PagedRunnerOptions {
  vocabSize?: number;
  contextLength?: number;
  capacityBlocks?: number;
  maxStepTokens?: number;
  maxStepLogits?: number;
  /** Steps submitted and not yet answered; default 1. */
  stepsInFlight?: number;
  /** Runs between a step's submission, which fixes what it reads and writes, and its result: delays, faults. A throw fails the step. */
  during?: (chunks: readonly StepChunk[]) => Promise<void> | void;
  /** Most block reads under way at once; more are refused. */
  maxReads?: number;
  /** Of 100 rows, those whose likeliest token by far is the last one plus 7: as the model goes on with a text of that step. Default 0. */
  follows?: number;
  /** Changes a row before it is returned. */
  alter?: (row: Float32Array, chunk: StepChunk) => void;
}

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ value, 0x9e3779b1) >>> 0;
  h ^= h >>> 15;
  h = Math.imul(h, 0x85ebca77) >>> 0;
  return (h ^ (h >>> 13)) >>> 0;
}

export class PagedRunner implements ModelRunner {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly capacityBlocks: number;
  readonly maxStepTokens: number;
  readonly maxStepLogits: number;
  readonly stepsInFlight: number;
  readonly slots: number;
  readonly fingerprint = 'paged-runner-1';
  /** Chunks of every step so far, for looking at; the last `remembered` only. */
  readonly history: { count: number; start: number; rows: number }[][] = [];
  steps = 0;
  /** Tokens computed in all. */
  computed = 0;
  #inFlight = 0;
  readonly #drawn: Uint32Array;
  readonly transfer: BlockTransfer;
  readonly #options: PagedRunnerOptions;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;

  constructor(options: PagedRunnerOptions = {}) {
    this.#options = options;
    this.vocabSize = options.vocabSize ?? 64;
    this.contextLength = options.contextLength ?? 512;
    this.capacityBlocks = options.capacityBlocks ?? 64;
    this.maxStepTokens = options.maxStepTokens ?? 64;
    this.maxStepLogits = options.maxStepLogits ?? 32;
    this.stepsInFlight = options.stepsInFlight ?? 1;
    this.slots = this.maxStepLogits;
    this.#drawn = new Uint32Array(this.slots);
    this.#tokens = new Int32Array(this.capacityBlocks * BLOCK_TOKENS).fill(-1);
    this.#positions = new Int32Array(this.capacityBlocks * BLOCK_TOKENS).fill(-1);
    this.transfer = new PagedTransfer([this.#tokens, this.#positions], options.maxReads ?? 64);
  }

  async step(chunks: readonly StepChunk[]): Promise<StepResult> {
    invariant(this.#inFlight < this.stepsInFlight, 'no more steps are in flight than may be');
    this.#inFlight += 1;
    try {
      const result = this.#compute(chunks);
      await this.#options.during?.(chunks);
      return result;
    } finally {
      this.#inFlight -= 1;
    }
  }

  #compute(chunks: readonly StepChunk[]): StepResult {
    this.#check(chunks);
    this.steps += 1;
    this.history.push(
      chunks.map(({ tokens, start, logitsFor }) => ({ count: tokens.length, start, rows: logitsFor.length })),
    );
    if (this.history.length > 1024) this.history.shift();
    for (const chunk of chunks) {
      this.computed += chunk.tokens.length;
      chunk.tokens.forEach((token, i) => {
        const slot = this.#slot(chunk, chunk.start + i);
        this.#tokens[slot] = token < 0 ? this.#drawn[-1 - token]! : token;
        this.#positions[slot] = chunk.start + i;
      });
    }
    const rows = chunks.flatMap((chunk) => chunk.logitsFor.map((offset) => this.#row(chunk, chunk.start + offset)));
    const logits = new Float32Array(rows.length * this.vocabSize);
    rows.forEach((row, i) => {
      logits.set(row, i * this.vocabSize);
    });
    return { answers: wishesOf(chunks).map((wish, i) => wish && referenceAnswer(rows[i]!, wish, this.#drawn)), logits };
  }

  copyBlock(from: number, to: number, tokens: number): void {
    for (let i = 0; i < tokens; i++) {
      this.#tokens[to * BLOCK_TOKENS + i] = this.#tokens[from * BLOCK_TOKENS + i]!;
      this.#positions[to * BLOCK_TOKENS + i] = this.#positions[from * BLOCK_TOKENS + i]!;
    }
  }

  destroy(): void {}

  #slot({ blockTable }: StepChunk, position: number): number {
    return blockTable[Math.floor(position / BLOCK_TOKENS)]! * BLOCK_TOKENS + (position % BLOCK_TOKENS);
  }

  #row(chunk: StepChunk, position: number): Float32Array {
    let hash = 0x2545f491;
    for (let i = 0; i <= position; i++) {
      const slot = this.#slot(chunk, i);
      hash = mix(mix(hash, this.#tokens[slot]!), this.#positions[slot]!);
    }
    const row = Float32Array.from({ length: this.vocabSize }, (_, id) => (mix(hash, id + 1) / 2 ** 32) * 8 - 4);
    if (hash % 100 < (this.#options.follows ?? 0))
      row[(this.#tokens[this.#slot(chunk, position)]! + 7) % this.vocabSize]! += 12;
    this.#options.alter?.(row, chunk);
    return row;
  }

  #check(chunks: readonly StepChunk[]): void {
    const written = new Set<number>();
    let rows = 0;
    let tokens = 0;
    for (const { tokens: ids, start, blockTable, logitsFor } of chunks) {
      invariant(ids.length > 0, 'a chunk has a token');
      tokens += ids.length;
      rows += logitsFor.length;
      const end = start + ids.length;
      invariant(end <= this.contextLength, 'a chunk is inside the context', { end });
      invariant(blockTable.length * BLOCK_TOKENS >= end, 'the table covers the chunk', { end });
      invariant(new Set(blockTable).size === blockTable.length, 'a table holds a block once');
      for (const block of blockTable)
        invariant(block >= 0 && block < this.capacityBlocks, 'a block is of the arena', { block });
      for (const id of ids) invariant(id >= -this.slots && id < this.vocabSize, 'a token is of the vocabulary', { id });
      logitsFor.forEach((offset, i) => {
        invariant(offset < ids.length && offset > (logitsFor[i - 1] ?? -1), 'rows ascend inside the chunk', { offset });
      });
      for (let i = Math.floor(start / BLOCK_TOKENS); i * BLOCK_TOKENS < end; i++) {
        invariant(!written.has(blockTable[i]!), 'no two chunks write one block', { block: blockTable[i]! });
        written.add(blockTable[i]!);
      }
    }
    invariant(tokens <= this.maxStepTokens, 'a step stays within its tokens', { tokens });
    invariant(rows <= this.maxStepLogits, 'a step stays within its rows', { rows });
  }
}

/** Blocks as bytes: all tokens, then all positions. A read is of this moment, and told later. */
class PagedTransfer implements BlockTransfer {
  readonly blockBytes: number;
  readonly writeMs = 0;
  readonly #layers: readonly Int32Array[];
  readonly #maxReads: number;
  #reads = 0;

  constructor(layers: readonly Int32Array[], maxReads: number) {
    this.#layers = layers;
    this.#maxReads = maxReads;
    this.blockBytes = layers.length * BLOCK_TOKENS * 4;
  }

  readBlock(block: number): Promise<Uint8Array> | null {
    if (this.#reads >= this.#maxReads) return null;
    this.#reads += 1;
    const words = this.#layers.flatMap((layer) => [
      ...layer.subarray(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS),
    ]);
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#reads -= 1;
        resolve(new Uint8Array(Int32Array.from(words).buffer));
      });
    });
  }

  writeBlock(block: number, bytes: Uint8Array): void {
    invariant(bytes.byteLength === this.blockBytes, 'a block is written whole', { bytes: bytes.byteLength });
    const words = new Int32Array(bytes.slice().buffer);
    for (const [i, layer] of this.#layers.entries())
      layer.set(words.subarray(i * BLOCK_TOKENS, (i + 1) * BLOCK_TOKENS), block * BLOCK_TOKENS);
  }
}
