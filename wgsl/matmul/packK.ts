// Packs the formats with super-blocks of 256: their scales stay the small integers that they are in the file.
import { nibbles, type Packer, STEP } from './packer.ts';

/** A block of 32 nibbles of 16 words, all low or all high: the k formats keep two blocks in one run of bytes. */
function packHalfBytes(halves: Uint16Array, at: number, shift: number, target: Uint32Array, quant: number): void {
  for (let word = 0; word < 4; word++) target[quant + word] = nibbles(halves, at + 4 * word, shift);
}

/** A block's low byte: 6-bit scale, high byte: 6-bit least value, from the 12 bytes of a Q4_K or Q5_K super-block. */
function scaleAndLeast(halves: Uint16Array, at: number, block: number): number {
  const byte = (i: number): number => (halves[at + (i >> 1)]! >> (8 * (i & 1))) & 255;
  if (block < 4) return (byte(block) & 63) | ((byte(block + 4) & 63) << 8);
  const upper = byte(block + 4);
  return (upper & 15) | ((byte(block - 4) >> 6) << 4) | (((upper >> 4) | ((byte(block) >> 6) << 4)) << 8);
}

/** d, dmin and the eight pairs of (scale, least) that Q4_K and Q5_K begin with: 8 words. */
function packKScales(halves: Uint16Array, at: number, target: Uint32Array, scale: number): void {
  for (let two = 0; two < 4; two++)
    target[scale + two * STEP] =
      scaleAndLeast(halves, at + 2, 2 * two) | (scaleAndLeast(halves, at + 2, 2 * two + 1) << 16);
  target[scale + 4 * STEP] = halves[at]! | (halves[at + 1]! << 16);
}

export const K_PACKERS: Record<'Q4_K' | 'Q5_K' | 'Q6_K', Packer> = {
  Q4_K(halves, at, spans, target, quant, scale) {
    for (let span = 0; span < spans; span++) {
      const from = at + 72 * span;
      packKScales(halves, from, target, scale + span * 5 * STEP);
      for (let block = 0; block < 8; block++)
        packHalfBytes(halves, from + 8 + 16 * (block >> 1), 4 * (block & 1), target, quant + (8 * span + block) * STEP);
    }
  },
  Q5_K(halves, at, spans, target, quant, scale) {
    for (let span = 0; span < spans; span++) {
      const from = at + 88 * span;
      const first = quant + 10 * span * STEP;
      packKScales(halves, from, target, scale + span * 5 * STEP);
      for (let block = 0; block < 8; block++) {
        packHalfBytes(halves, from + 24 + 16 * (block >> 1), 4 * (block & 1), target, first + block * STEP);
        let high = 0;
        for (let pair = 0; pair < 16; pair++) {
          const bits = halves[from + 8 + pair]! >> block;
          high |= ((bits & 1) << pair) | (((bits >> 8) & 1) << (pair + 16));
        }
        target[first + (8 + (block >> 2)) * STEP + (block & 3)] = high;
      }
    }
  },
  Q6_K(halves, at, spans, target, quant, scale) {
    for (let span = 0; span < spans; span++) {
      const from = at + 105 * span;
      const first = quant + 12 * span * STEP;
      for (let block = 0; block < 8; block++) {
        const upper = block >> 2;
        const quarter = block & 3;
        packHalfBytes(halves, from + 32 * upper + 16 * (quarter & 1), 4 * (quarter >> 1), target, first + block * STEP);
        for (let word = 0; word < 2; word++) {
          let high = 0;
          for (let pair = 0; pair < 8; pair++) {
            const bits = halves[from + 64 + 16 * upper + 8 * word + pair]! >> (2 * quarter);
            high |= ((bits & 3) | (((bits >> 8) & 3) << 16)) << (2 * pair);
          }
          target[first + (8 + (block >> 1)) * STEP + 2 * (block & 1) + word] = high;
        }
      }
      for (let two = 0; two < 4; two++)
        target[scale + (5 * span + two) * STEP] = halves[from + 96 + 2 * two]! | (halves[from + 97 + 2 * two]! << 16);
      target[scale + (5 * span + 4) * STEP] = halves[from + 104]!;
    }
  },
};
