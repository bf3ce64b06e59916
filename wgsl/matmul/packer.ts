// What the packers of all formats share (pack.ts, packK.ts): their contract, and nibbles as layout.ts has them.
import { LANE_GROUP } from './layout.ts';

/** Words from a lane's vec4 to its next: the vec4 of the other lanes of its group lie between. */
export const STEP = LANE_GROUP * 4;

/**
 * Packs a row's `spans` from `halves[at]` on. `quant`, `scale`: words of its first vec4 (for scale: of its component); the next is STEP further.
 */
export type Packer = (
  halves: Uint16Array,
  at: number,
  spans: number,
  target: Uint32Array,
  quant: number,
  scale: number,
) => void;

/** Nibbles of 8 elements from four words, `shift` 0 or 4: pairs of layout.ts's q4. */
export function nibbles(halves: Uint16Array, at: number, shift: number): number {
  const a = halves[at]!;
  const b = halves[at + 1]!;
  const c = halves[at + 2]!;
  const d = halves[at + 3]!;
  const left = 8 - shift;
  return (
    (((a >> shift) | (a << left)) & 0x000f000f) |
    ((((b >> shift) | (b << left)) & 0x000f000f) << 4) |
    ((((c >> shift) | (c << left)) & 0x000f000f) << 8) |
    ((((d >> shift) | (d << left)) & 0x000f000f) << 12)
  );
}
