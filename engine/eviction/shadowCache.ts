// A cache without contents: what a smaller or otherwise run cache would hold now, had it served the same requests. It runs any eviction
// policy over digests, leaf-first like the real one, and is what a guarantee is measured by: a hit here was owed.
import { invariant } from '../invariant.ts';
import { DigestMap } from './digestMap.ts';
import type { BlockFacts, EvictionPolicy } from './policy.ts';

const NONE = -1;

export class ShadowCache {
  readonly slots: number;
  readonly #policy: EvictionPolicy;
  readonly #slotOf: DigestMap;
  readonly #digest: Float64Array;
  /** The real cache's block of that digest when it was last used. */
  readonly #block: Int32Array;
  readonly #parent: Int32Array;
  readonly #children: Int32Array;
  readonly #isInUse: Uint8Array;
  readonly #free: Int32Array;
  #freeCount: number;
  #capacityBlocks: number;
  /** The sequence being told of, first to last: in use until another one begins. */
  readonly #path: number[] = [];
  readonly #onGone: (block: number, digest: number) => void;

  /** `policy` is for `slots` blocks. `onGone` is told what the shadow holds no longer. About 50 bytes a slot, and the policy's. */
  constructor(slots: number, policy: EvictionPolicy, onGone: (block: number, digest: number) => void) {
    this.slots = slots;
    this.#policy = policy;
    this.#slotOf = new DigestMap(slots);
    this.#digest = new Float64Array(slots);
    this.#block = new Int32Array(slots);
    this.#parent = new Int32Array(slots);
    this.#children = new Int32Array(slots);
    this.#isInUse = new Uint8Array(slots);
    this.#free = Int32Array.from({ length: slots }, (_, i) => slots - 1 - i);
    this.#freeCount = slots;
    this.#capacityBlocks = slots;
    this.#onGone = onGone;
  }

  get size(): number {
    return this.slots - this.#freeCount;
  }

  holds(digest: number): boolean {
    return this.#slotOf.get(digest) !== NONE;
  }

  /** The real block of what would leave here next, -1 when there is none. It may have gone from the real cache since. */
  get next(): { block: number; digest: number } | null {
    const slot = this.#policy.victim('');
    return slot < 0 ? null : { block: this.#block[slot]!, digest: this.#digest[slot]! };
  }

  /** At most `slots`. What is too much leaves. */
  resize(capacityBlocks: number): void {
    invariant(capacityBlocks >= 1 && capacityBlocks <= this.slots, 'a shadow stays within its slots', {
      capacityBlocks,
    });
    this.#capacityBlocks = capacityBlocks;
    if (this.size <= capacityBlocks) return;
    this.#endPath();
    while (this.size > capacityBlocks) this.#evict();
  }

  /** A request uses the block: true when the shadow had it. `parentDigest`: null for the first of a sequence. */
  use(block: number, parentDigest: number | null, facts: BlockFacts): boolean {
    const parent = parentDigest === null ? NONE : this.#slotOf.get(parentDigest);
    if (parent === NONE || parent !== (this.#path.at(-1) ?? NONE)) this.#endPath();
    const known = this.#slotOf.get(facts.digest);
    if (known !== NONE) {
      this.#block[known] = block;
      this.#hold(known);
      this.#policy.reuse(known, facts.freshBlocks);
      return true;
    }
    // Without its parent it could not be found here.
    if (parentDigest !== null && parent === NONE) return false;
    if (parent !== NONE) this.#hold(parent);
    if (this.size >= this.#capacityBlocks && !this.#evict()) return false;
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount]!;
    this.#slotOf.set(facts.digest, slot);
    this.#digest[slot] = facts.digest;
    this.#block[slot] = block;
    this.#parent[slot] = parent;
    this.#children[slot] = 0;
    if (parent !== NONE) this.#children[parent]! += 1;
    this.#isInUse[slot] = 1;
    this.#path.push(slot);
    this.#policy.admit(slot, { ...facts, parent });
    return false;
  }

  #hold(slot: number): void {
    if (this.#isInUse[slot]) return;
    if (this.#children[slot] === 0) this.#policy.delete(slot);
    this.#isInUse[slot] = 1;
    this.#path.push(slot);
  }

  #endPath(): void {
    for (let slot = this.#path.pop(); slot !== undefined; slot = this.#path.pop()) {
      this.#isInUse[slot] = 0;
      this.#policy.touch(slot);
      if (this.#children[slot] === 0) this.#policy.insert(slot);
    }
  }

  #evict(): boolean {
    const slot = this.#policy.victim('');
    if (slot < 0) return false;
    const digest = this.#digest[slot]!;
    const parent = this.#parent[slot]!;
    this.#policy.delete(slot);
    this.#policy.remove(slot);
    this.#slotOf.delete(digest);
    this.#free[this.#freeCount++] = slot;
    if (parent !== NONE) {
      this.#children[parent]! -= 1;
      if (this.#children[parent] === 0 && !this.#isInUse[parent]) this.#policy.insert(parent);
    }
    this.#onGone(this.#block[slot]!, digest);
    return true;
  }
}
