// The sliding minute: at most so much in any 60 seconds, also across a border, on bounded state. Use is counted by the second in which
// it was reserved, and a second leaves only when it has left whole: 61 of them count, so the rule errs against the caller by up to one.
//
//   … │ now-61 │ now-60 ├──────────────── 61 seconds count ────────────────┤ now │
//
// Time comes from a wall clock that may be set back. A tenant's second then stands still until the clock has caught up, so no room opens;
// if it was set back by more than MAX_STEP_BACK_S the old time was wrong: what it counted counts from now, and what had left by it stays away. Pure.
import { invariant } from '../invariant.ts';

const SECONDS = 61;
const MAX_STEP_BACK_S = 300;

export interface MinuteBucket {
  /** Unix seconds. */
  second: number;
  settled: number;
  held: number;
}

/** Ascending seconds, at most 61. */
export type MinuteRing = readonly MinuteBucket[];

/** The second that a tenant's reservation is counted in, given the latest it has had. Lower than that: `latest` was wrong. */
export function ledgerSecond(latest: number, nowMs: number): number {
  const second = Math.floor(nowMs / 1000);
  return second < latest && latest - second <= MAX_STEP_BACK_S ? latest : second;
}

/** Oldest second that counts at `second`. */
export function oldestSecond(second: number): number {
  return second - SECONDS + 1;
}

/** Unix milliseconds before which nothing was reserved that may count at `second`: a second that stood still is ahead of its reservation. */
export function earliestOfMinute(second: number): number {
  return (oldestSecond(second) - MAX_STEP_BACK_S - 1) * 1000;
}

/** What counts at `second`; what was booked later, by a clock that was wrong, is booked there. */
export function slide(ring: MinuteRing, second: number): MinuteBucket[] {
  const kept: MinuteBucket[] = [];
  for (const bucket of ring) {
    const at = Math.min(bucket.second, second);
    const last = kept.at(-1);
    if (at < oldestSecond(second)) continue;
    if (last?.second === at) {
      last.settled += bucket.settled;
      last.held += bucket.held;
    } else kept.push({ ...bucket, second: at });
  }
  return kept;
}

/** Books at a second: a new one only at the end. What has left the ring is no longer counted, nor moved; a second that counts nothing leaves it. */
export function book(ring: MinuteRing, second: number, change: { settled: number; held: number }): MinuteBucket[] {
  const booked: MinuteBucket[] = [];
  for (const bucket of ring) {
    const here = bucket.second === second ? change : { settled: 0, held: 0 };
    const [settled, held] = [bucket.settled + here.settled, bucket.held + here.held];
    if (settled !== 0 || held !== 0) booked.push({ second: bucket.second, settled, held });
  }
  const newest = booked.at(-1)?.second ?? Number.NEGATIVE_INFINITY;
  if (second > newest && change.held > 0) booked.push({ second, ...change });
  invariant(booked.length <= SECONDS, 'a ring holds a minute', { length: booked.length });
  return booked;
}

export function totals(ring: MinuteRing): { settled: number; held: number } {
  return ring.reduce((sum, { settled, held }) => ({ settled: sum.settled + settled, held: sum.held + held }), {
    settled: 0,
    held: 0,
  });
}

/** Unix milliseconds at which the ring is empty if nothing comes; `nowMs` when it is. */
export function emptyAtMs(ring: MinuteRing, nowMs: number): number {
  const newest = ring.at(-1);
  return newest ? leavesAtMs(newest) : nowMs;
}

/** Unix milliseconds at which `amount` has left; null: there isn't so much. */
export function leftAtMs(ring: MinuteRing, amount: number): number | null {
  let left = 0;
  for (const bucket of ring) {
    left += bucket.settled + bucket.held;
    if (left >= amount) return leavesAtMs(bucket);
  }
  return null;
}

function leavesAtMs({ second }: MinuteBucket): number {
  return (second + SECONDS) * 1000;
}

/** What is settled of it, two doubles a bucket: second, settled. */
export function encodeRing(ring: MinuteRing): Uint8Array {
  const settled = ring.filter((bucket) => bucket.settled > 0);
  return new Uint8Array(new Float64Array(settled.flatMap((bucket) => [bucket.second, bucket.settled])).buffer);
}

export function decodeRing(bytes: Uint8Array): MinuteBucket[] {
  const values = new Float64Array(bytes.slice().buffer);
  const ring: MinuteBucket[] = [];
  for (let i = 0; i + 1 < values.length; i += 2)
    ring.push({ second: values[i] ?? 0, settled: values[i + 1] ?? 0, held: 0 });
  return ring;
}
