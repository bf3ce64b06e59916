// When blocks were last used, whether they are cached still or not: the memory of a learning policy. As time goes on each block that
// stays unused is seen to pass the bounds of the age bins, one after the other, and is forgotten behind the last if it is not cached.
//
//   ticks   ──────────── now - bound[2] ───── now - bound[1] ── now
//   log     … e4  e9  e1      e7  e3  e4  e8      e2  e7  e5     the block used at each tick; e4 was used again: its older line is void
import { invariant } from '../invariant.ts';
import { DigestMap } from './digestMap.ts';

/** Uses are told apart up to this. */
const MAX_USES = 255;

export class UseLog {
  readonly #bounds: Float64Array;
  readonly #entryOf: DigestMap;
  readonly #digest: Float64Array;
  /** Tick of the last use; 0 for a vacant entry. */
  readonly lastUse: Float64Array;
  readonly uses: Uint8Array;
  /** What the policy takes it for. */
  readonly kind: Uint8Array;
  readonly bin: Uint8Array;
  /** Where it is cached, -1 when it isn't. */
  readonly block: Int32Array;
  readonly #vacant: Int32Array;
  #vacantCount: number;
  /** Entry used at each of the last ticks, a ring. */
  readonly #log: Int32Array;
  #now = 0;

  /** Remembers cached blocks and whatever was used within the last of `bounds`, 55 to 80 bytes for each. */
  constructor(capacityBlocks: number, bounds: Float64Array) {
    const horizonTicks = bounds.at(-1)!;
    const entries = capacityBlocks + horizonTicks + 1;
    this.#bounds = bounds;
    this.#entryOf = new DigestMap(entries);
    this.#digest = new Float64Array(entries);
    this.lastUse = new Float64Array(entries);
    this.uses = new Uint8Array(entries);
    this.kind = new Uint8Array(entries);
    this.bin = new Uint8Array(entries);
    this.block = new Int32Array(entries).fill(-1);
    this.#vacant = Int32Array.from({ length: entries }, (_, i) => entries - 1 - i);
    this.#vacantCount = entries;
    this.#log = new Int32Array(horizonTicks + 1).fill(-1);
  }

  get now(): number {
    return this.#now;
  }

  /** The entry of a block that becomes cached as `block`; its uses are 0 where nothing is remembered of it. */
  attach(digest: number, block: number): number {
    let entry = this.#entryOf.get(digest);
    if (entry === -1) {
      invariant(this.#vacantCount > 0, 'a log has an entry for each block it can know', { block });
      this.#vacantCount -= 1;
      entry = this.#vacant[this.#vacantCount]!;
      this.#entryOf.set(digest, entry);
      this.#digest[entry] = digest;
      this.uses[entry] = 0;
    } else if (this.block[entry] !== -1) {
      return -1;
    }
    this.block[entry] = block;
    return entry;
  }

  /** It is cached no longer. */
  detach(entry: number): void {
    this.block[entry] = -1;
    if (this.bin[entry] === this.#bounds.length - 1) this.#forget(entry);
  }

  countUse(entry: number): number {
    const uses = Math.min(MAX_USES, this.uses[entry]! + 1);
    this.uses[entry] = uses;
    return uses;
  }

  /** The entry is used now: a tick. `onAged` is told of each entry that passes into a bin thereby. */
  stamp(entry: number, onAged: (entry: number, bin: number) => void): void {
    this.#now += 1;
    const now = this.#now;
    this.lastUse[entry] = now;
    this.bin[entry] = 0;
    const length = this.#log.length;
    this.#log[now % length] = entry;
    const bounds = this.#bounds;
    const last = bounds.length - 1;
    for (let bin = 1; bin <= last; bin++) {
      const tick = now - bounds[bin]!;
      if (tick < 1) break;
      const aged = this.#log[tick % length]!;
      if (this.lastUse[aged] !== tick) continue;
      if (bin === last && this.block[aged] === -1) this.#forget(aged);
      else {
        this.bin[aged] = bin;
        onAged(aged, bin);
      }
    }
  }

  #forget(entry: number): void {
    this.#entryOf.delete(this.#digest[entry]!);
    this.lastUse[entry] = 0;
    this.#vacant[this.#vacantCount++] = entry;
  }
}
