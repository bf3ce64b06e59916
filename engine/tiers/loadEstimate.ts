// How long blocks take from the tiers into the arena, by the loads so far. Only loads measure it, so a time that keeps anybody from loading
// would never be corrected: one slow moment of a disk would end its use. Hence what no load has confirmed for a while is doubted: it is
// taken for half as long after each half-life, and weighs that much less beside the next measurement. A disk that is in truth
// k times too slow thus costs one load in log2(k) half-lives. Pure; time comes in.

/** Milliseconds in which a measurement loses half of its weight. */
const HALF_LIFE_MS = 30_000;
/** What a measurement leaves to those before it, had they been made at the same time. */
const KEPT = 0.8;

export class LoadEstimate {
  /** A block's way from disk to memory. */
  #diskMs: number;
  #isMeasured = false;
  /** When blocks last came from disk, and from anywhere. */
  #diskAtMs: number;
  #loadedAtMs: number;

  /** `assumedDiskMs`: of a block, before the first; doubted like a measurement made now. */
  constructor(assumedDiskMs: number, nowMs: number) {
    this.#diskMs = assumedDiskMs;
    this.#diskAtMs = nowMs;
    this.#loadedAtMs = nowMs;
  }

  /** Blocks were loaded; `diskMs` for each that came from disk, null where none did. */
  note(diskMs: number | null, nowMs: number): void {
    this.#loadedAtMs = nowMs;
    if (diskMs === null) return;
    const kept = this.#isMeasured ? KEPT * trust(this.#diskAtMs, nowMs) : 0;
    this.#diskMs = kept * this.#diskMs + (1 - kept) * diskMs;
    this.#isMeasured = true;
    this.#diskAtMs = nowMs;
  }

  /** Milliseconds for so many blocks; `writeMs`: of one into the arena, as the last loads had it. */
  loadMs(fromRam: number, fromDisk: number, writeMs: number, nowMs: number): number {
    const diskMs = fromDisk * this.#diskMs * trust(this.#diskAtMs, nowMs);
    return (fromRam + fromDisk) * writeMs * trust(this.#loadedAtMs, nowMs) + diskMs;
  }
}

/** 1 for what was measured now, falling to 0. A clock that was set back leaves it at 1. */
function trust(measuredMs: number, nowMs: number): number {
  return 2 ** (-Math.max(0, nowMs - measuredMs) / HALF_LIFE_MS);
}
