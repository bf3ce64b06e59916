// What the kernels of one step need to know about its tokens and wanted rows, in one buffer and one write: counts, then an array per
// field at a fixed, 256-byte aligned offset, the lists last because only their used part is written: block tables, then the
// adjustments of logits.

import { CONTEXT_SPLIT } from '../../wgsl/attention/shape.ts';
import { wholeGroups } from '../../wgsl/matmul/variant.ts';
import { NO_SLOT, placeVec4 } from '../../wgsl/rope/place.ts';
import { ADJUSTMENT_WORDS, ROW_WORDS } from '../../wgsl/sample/row.ts';
import { invariant } from '../invariant.ts';
import { BLOCK_TOKENS, type RowWish, type StepChunk } from '../modelRunner.ts';
import { RowWriter } from '../rowWords.ts';
import type { StepCounts } from './dispatch.ts';
import type { StepShape } from './stepCommands.ts';

const ALIGN = 256;
const aligned = (bytes: number): number => Math.ceil(bytes / ALIGN) * ALIGN;

export interface MetadataLimits {
  maxTokens: number;
  maxLogits: number;
  /** Entries over all block tables of a step. */
  maxTableEntries: number;
  /** Adjusted logits over all wanted rows of a step. */
  maxAdjustments: number;
  /** Radians per position of each rotated pair of dimensions. */
  frequencies: Float64Array;
  vocabSize: number;
  capacityBlocks: number;
  /** For drawn tokens. */
  slots: number;
  /** Rows of one sequence that attention computes together; 1: each by itself. */
  queryRows: number;
}

const FIELDS = ['counts', 'tokenIds', 'queryTiles', 'singleQueries', 'wanted', 'wishes', 'places', 'lists'] as const;
export type MetadataField = (typeof FIELDS)[number];

/** A work item of attention: first token of the step, rows, where the block table begins, position of the first row. */
const ITEM_WORDS = 4;

/** Of a token (wgsl/rope/place.ts). */
const placeBytes = ({ frequencies }: Pick<MetadataLimits, 'frequencies'>): number =>
  16 * placeVec4(2 * frequencies.length);

/** Fewest rows for which a tile costs less than as many single rows: about half, measured on lavapipe. Tiles of one row are none. */
const leastTile = (queryRows: number): number =>
  queryRows === 1 ? Number.POSITIVE_INFINITY : Math.max(2, queryRows / 2);

export class StepMetadata {
  readonly limits: MetadataLimits;
  readonly byteLength: number;
  /** Bytes from the buffer's start, and length, of each field. */
  readonly field: Record<MetadataField, { offset: number; size: number }>;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly #floats: Float32Array;
  /** Rows of the step last filled in, by what a dispatch works on. */
  readonly rows: StepCounts = { tokens: 0, wanted: 0, queryTiles: 0, singleQueries: 0, splits: 1 };
  /** Of the rows' instructions (wgsl/sample/row.ts), all together. */
  flags = 0;
  /** Whether a token stands in a slot. */
  slotTokens = false;
  /** Whether a row's logits are wanted on the host. */
  raw = false;
  /** Bytes that have to be written for the step last filled in. */
  usedBytes = 0;

  constructor(limits: MetadataLimits) {
    this.limits = limits;
    const { maxTokens, maxLogits } = limits;
    const sizes: Record<MetadataField, number> = {
      counts: 16,
      tokenIds: maxTokens * 4,
      queryTiles: Math.max(1, Math.ceil(maxTokens / leastTile(limits.queryRows))) * ITEM_WORDS * 4,
      singleQueries: maxTokens * ITEM_WORDS * 4,
      wanted: maxLogits * 4,
      wishes: maxLogits * ROW_WORDS * 4,
      places: wholeGroups(maxTokens) * placeBytes(limits),
      lists: (limits.maxTableEntries + limits.maxAdjustments * ADJUSTMENT_WORDS) * 4,
    };
    let offset = 0;
    const field: Partial<Record<MetadataField, { offset: number; size: number }>> = {};
    for (const name of FIELDS) {
      field[name] = { offset, size: sizes[name] };
      offset += aligned(sizes[name]);
    }
    this.field = field as Record<MetadataField, { offset: number; size: number }>;
    this.byteLength = offset;
    this.words = new Uint32Array(offset / 4);
    this.#floats = new Float32Array(this.words.buffer);
  }

  /** Fills in a step. Offsets and block tables come from our own scheduler: a wrong one is a bug, not an input error. */
  fill(chunks: readonly StepChunk[], wishes: readonly (RowWish | null)[]): void {
    const { limits, words } = this;
    this.slotTokens = false;
    let token = 0;
    let row = 0;
    let entry = 0;
    this.rows.queryTiles = 0;
    this.rows.singleQueries = 0;
    this.rows.splits = 1;
    for (const chunk of chunks) {
      const count = chunk.tokens.length;
      const blocks = Math.ceil((chunk.start + count) / BLOCK_TOKENS);
      invariant(token + count <= limits.maxTokens, 'step has more tokens than it may', { tokens: token + count });
      invariant(blocks <= chunk.blockTable.length, 'block table does not cover the chunk', { blocks });
      invariant(entry + blocks <= limits.maxTableEntries, 'block tables of a step are too long', { entry, blocks });
      for (let i = 0; i < blocks; i++) {
        const block = chunk.blockTable[i] as number;
        invariant(block >= 0 && block < limits.capacityBlocks, 'block is outside the arena', { block });
        words[this.#at('lists') + entry + i] = block;
      }
      for (const offset of chunk.logitsFor) {
        invariant(offset < count && row < limits.maxLogits, 'more logits wanted than a step can give', { offset, row });
        words[this.#at('wanted') + row++] = token + offset;
      }
      this.#fillQueries(token, count, entry, chunk.start);
      for (let i = 0; i < count; i++) this.#fillToken(token++, chunk, i);
      entry += blocks;
    }
    for (let padding = token; padding < wholeGroups(token); padding++)
      words[this.#at('places') + (padding * placeBytes(limits)) / 4 + 2 * limits.frequencies.length] = NO_SLOT;
    words[0] = token;
    words[1] = row;
    words[3] = this.rows.splits;
    this.rows.tokens = token;
    this.rows.wanted = row;
    this.#fillRows(wishes, entry);
  }

  /** What the commands of the step last filled in depend on. */
  shape(): StepShape {
    return { rows: { ...this.rows }, flags: this.flags, slotTokens: this.slotTokens };
  }

  #fillRows(wishes: readonly (RowWish | null)[], tableEntries: number): void {
    const writer = new RowWriter(this.limits.vocabSize, {
      words: { u32: this.words, f32: this.#floats },
      rowsAt: this.#at('wishes'),
      adjustBase: this.#at('lists'),
      adjustAt: this.#at('lists') + tableEntries,
    });
    for (const wish of wishes) writer.write(wish && this.#checked(wish));
    this.raw = wishes.includes(null);
    this.flags = writer.flags;
    this.usedBytes = writer.end * 4;
  }

  #checked(wish: RowWish): RowWish {
    const { slots, vocabSize } = this.limits;
    if (wish.kind === 'draw') {
      const { slot, pending } = wish;
      invariant(slot === null ? !pending : slot >= 0 && slot < slots, 'a slot exists', { slot });
    } else invariant(wish.id >= 0 && wish.id < vocabSize, 'token id is outside the vocabulary', { id: wish.id });
    return wish;
  }

  /** Rows of a chunk by tiles of `queryRows`; where fewer than half a tile is left, row by row. */
  #fillQueries(token: number, count: number, table: number, position: number): void {
    const { queryRows } = this.limits;
    for (let done = 0; done < count; ) {
      const tiled = count - done >= leastTile(queryRows);
      const rows = tiled ? Math.min(queryRows, count - done) : 1;
      const kind = tiled ? 'queryTiles' : 'singleQueries';
      const at = this.#at(kind) + this.rows[kind]++ * ITEM_WORDS;
      this.words[at] = token + done;
      this.words[at + 1] = rows;
      this.words[at + 2] = table;
      this.words[at + 3] = position + done;
      done += rows;
      if (!tiled) this.rows.splits = Math.max(this.rows.splits, Math.ceil((position + done) / CONTEXT_SPLIT));
    }
  }

  #fillToken(token: number, chunk: StepChunk, index: number): void {
    const { words, limits } = this;
    const { frequencies } = limits;
    const id = chunk.tokens[index] as number;
    invariant(id >= -limits.slots && id < limits.vocabSize, 'token id is outside the vocabulary', { id });
    if (id < 0) this.slotTokens = true;
    const position = chunk.start + index;
    const block = chunk.blockTable[Math.floor(position / BLOCK_TOKENS)] as number;
    words[this.#at('tokenIds') + token] = id;
    const rotation = this.#at('places') + (token * placeBytes(limits)) / 4;
    words[rotation + 2 * frequencies.length] = block * BLOCK_TOKENS + (position % BLOCK_TOKENS);
    for (let pair = 0; pair < frequencies.length; pair++) {
      const angle = position * (frequencies[pair] as number);
      this.#floats[rotation + 2 * pair] = Math.cos(angle);
      this.#floats[rotation + 2 * pair + 1] = Math.sin(angle);
    }
  }

  #at(name: MetadataField): number {
    return this.field[name].offset / 4;
  }
}
