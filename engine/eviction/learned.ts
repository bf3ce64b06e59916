// Learns online how likely blocks are used again, by how often they were used so far and how long ago, and evicts the leaf whose keeping
// promises the least reuse per tick. Where nothing was learned yet it orders like LRU with a bonus for use. It sees loops, scans and
// one-time prompts for what they are; it knows no tenants and no tokens.
import { BlockHeap, HeapKeys } from './blockHeap.ts';
import { type BlockFacts, type EvictionPolicy, NEUTRAL_PRIORITY } from './policy.ts';
import { ageBounds, ReuseStatistics } from './reuseStatistics.ts';
import { UseLog } from './useLog.ts';

/** Classes: used once, twice, … this often or more, and partly filled ends of sequences by themselves. */
const USE_CLASSES = 8;
const PARTIAL_CLASS = USE_CLASSES;
/** A block that was used k times is at first taken to be k times as likely to be used again; an end is taken for a new block. */
const PRIOR_FACTORS = [1, 2, 3, 4, 5, 6, 7, 8, 1];
/** What is used again sooner than this part of a turnover survives any policy: no need to look closer. */
const YOUNGEST_TURNOVERS = 1 / 32;
const MIN_YOUNGEST_TICKS = 8;
/** Reuse is watched for some turnovers of the cache; of a small one for many, so that it learns what it keeps missing. */
const HISTORY_TURNOVERS = 4;
const MIN_HISTORY_TICKS = 65_536;
/** What was seen fades with this half-life, in histories: habits change. */
const HALF_LIFE_HISTORIES = 4;
/** Values follow the counts after so many ticks: they change slowly. */
const REVALUE_TICKS = 512;
/** Priorities fall into so many levels, the middle one neutral; the highest is worth as much as that many times the reuse. */
const PRIORITY_LEVELS = 5;
const PRIORITY_WORTH = 8;

export class LearnedEviction implements EvictionPolicy {
  readonly name = 'learned';
  readonly #capacityBlocks: number;
  readonly #statistics: ReuseStatistics;
  readonly #log: UseLog;
  /** Entry in the log, [capacityBlocks]; -1 for a block whose prefix is cached a second time: the least valuable of all. */
  readonly #entry: Int32Array;
  readonly #level: Uint8Array;
  readonly #isPartial: Uint8Array;
  /** Leaves by priority level, class and age bin; in each, the one used longest ago first. */
  readonly #buckets: BlockHeap[];
  /** Bucket that a leaf is in, -1 for others, [capacityBlocks]. */
  readonly #bucketOf: Int32Array;
  /** Buckets that hold something, in no order, and where each stands there. */
  readonly #filled: number[] = [];
  readonly #filledAt: Int32Array;
  #size = 0;
  #revalueAt = REVALUE_TICKS;
  readonly #onAged = (entry: number, bin: number): void => this.#aged(entry, bin);

  constructor(capacityBlocks: number) {
    this.#capacityBlocks = capacityBlocks;
    const youngest = Math.max(MIN_YOUNGEST_TICKS, capacityBlocks * YOUNGEST_TURNOVERS);
    const oldest = Math.max(MIN_HISTORY_TICKS, capacityBlocks * HISTORY_TURNOVERS);
    this.#statistics = new ReuseStatistics(PRIOR_FACTORS, ageBounds(youngest, oldest));
    this.#log = new UseLog(capacityBlocks, this.#statistics.bounds);
    this.#entry = new Int32Array(capacityBlocks).fill(-1);
    this.#level = new Uint8Array(capacityBlocks);
    this.#isPartial = new Uint8Array(capacityBlocks);
    const keys = new HeapKeys(capacityBlocks);
    const buckets = PRIORITY_LEVELS * this.#statistics.classes * this.#statistics.bins;
    this.#buckets = Array.from({ length: buckets }, () => new BlockHeap(keys));
    this.#bucketOf = new Int32Array(capacityBlocks).fill(-1);
    this.#filledAt = new Int32Array(buckets);
  }

  get size(): number {
    return this.#size;
  }

  account(): void {}

  admit(block: number, facts: BlockFacts): void {
    const entry = this.#log.attach(facts.digest, block);
    this.#entry[block] = entry;
    this.#isPartial[block] = facts.partial ? 1 : 0;
    this.#level[block] = Math.round((facts.priority / (2 * NEUTRAL_PRIORITY)) * (PRIORITY_LEVELS - 1));
    if (entry >= 0) this.#use(block, entry);
  }

  reuse(block: number): void {
    const entry = this.#entry[block]!;
    if (entry >= 0) this.#use(block, entry);
  }

  touch(block: number): void {
    const entry = this.#entry[block]!;
    // A long run has kept it in use: it is as young as at its end. A short one makes no difference.
    if (entry >= 0 && this.#log.bin[entry]! > 0) this.#stamp(entry);
  }

  insert(block: number): void {
    const entry = this.#entry[block]!;
    const kind = entry < 0 ? PARTIAL_CLASS : this.#log.kind[entry]!;
    const bin = entry < 0 ? this.#statistics.bins - 1 : this.#log.bin[entry]!;
    const bucket = (this.#level[block]! * this.#statistics.classes + kind) * this.#statistics.bins + bin;
    const heap = this.#buckets[bucket]!;
    if (heap.size === 0) {
      this.#filledAt[bucket] = this.#filled.length;
      this.#filled.push(bucket);
    }
    heap.push(block, entry < 0 ? 0 : this.#log.lastUse[entry]!);
    this.#bucketOf[block] = bucket;
    this.#size += 1;
  }

  delete(block: number): void {
    const bucket = this.#bucketOf[block]!;
    const heap = this.#buckets[bucket]!;
    heap.remove(block);
    this.#bucketOf[block] = -1;
    this.#size -= 1;
    if (heap.size > 0) return;
    const last = this.#filled.pop()!;
    if (last === bucket) return;
    this.#filled[this.#filledAt[bucket]!] = last;
    this.#filledAt[last] = this.#filledAt[bucket]!;
  }

  remove(block: number): void {
    const entry = this.#entry[block]!;
    if (entry >= 0) this.#log.detach(entry);
    this.#entry[block] = -1;
  }

  /** O(filled buckets), a few dozen whatever the capacity. */
  victim(): number {
    const { classes, bins } = this.#statistics;
    let victim = -1;
    let least = Number.POSITIVE_INFINITY;
    let oldest = Number.POSITIVE_INFINITY;
    for (const bucket of this.#filled) {
      const block = this.#buckets[bucket]!.first;
      const entry = this.#entry[block]!;
      if (entry < 0) return block;
      const usedAt = this.#log.lastUse[entry]!;
      const age = this.#log.now - usedAt;
      const bin = bucket % bins;
      const kindAndLevel = (bucket - bin) / bins;
      const kind = kindAndLevel % classes;
      const value = this.#statistics.value(kind, bin, age) * this.#retention((kindAndLevel - kind) / classes, age);
      if (value < least || (value === least && usedAt < oldest)) {
        least = value;
        oldest = usedAt;
        victim = block;
      }
    }
    return victim;
  }

  /** What priority multiplies the value by: less and less while the block is unused. */
  #retention(level: number, ageTicks: number): number {
    const middle = (PRIORITY_LEVELS - 1) / 2;
    if (level === middle) return 1;
    const worth = PRIORITY_WORTH ** ((level - middle) / middle);
    return 1 + (worth - 1) * 2 ** (-ageTicks / this.#capacityBlocks);
  }

  #use(block: number, entry: number): void {
    const log = this.#log;
    const uses = log.countUse(entry);
    if (uses > 1) this.#statistics.countUsed(log.kind[entry]!, log.bin[entry]!);
    log.kind[entry] = this.#isPartial[block] ? PARTIAL_CLASS : Math.min(uses, USE_CLASSES) - 1;
    this.#stamp(entry);
  }

  #stamp(entry: number): void {
    this.#statistics.countReached(this.#log.kind[entry]!, 0);
    this.#log.stamp(entry, this.#onAged);
    if (this.#log.now < this.#revalueAt) return;
    this.#revalueAt = this.#log.now + REVALUE_TICKS;
    const halfLifeTicks = HALF_LIFE_HISTORIES * this.#statistics.bounds.at(-1)!;
    this.#statistics.fade(2 ** (-REVALUE_TICKS / halfLifeTicks));
    this.#statistics.revalue();
  }

  #aged(entry: number, bin: number): void {
    this.#statistics.countReached(this.#log.kind[entry]!, bin);
    const block = this.#log.block[entry]!;
    if (block < 0 || this.#bucketOf[block] === -1) return;
    this.delete(block);
    this.insert(block);
  }
}
