// f32 to the stored forms of a tensor: the legacy types as ggml's quantize_row_*_ref has them, the K types by a plain rule (ggml searches for
// better scales; what a block stands for is the same). Only tests write models; the engine reads them.
import { BLOCK_LAYOUT, rowByteLength } from '../../engine/model/tensorTypes.ts';
import type { TensorType } from '../../engine/model/types.ts';

type BlockWriter = (values: Float32Array, view: DataView, at: number) => void;

const inverse = (scale: number): number => (scale === 0 ? 0 : 1 / scale);
const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));
/** The value of largest magnitude, with its sign. */
const extreme = (values: Float32Array): number =>
  values.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);

/** Writes a half and gives back what it stands for. */
function half(view: DataView, at: number, value: number): number {
  view.setFloat16(at, value, true);
  return view.getFloat16(at, true);
}

function nibbles(view: DataView, at: number, quants: readonly number[]): void {
  for (let i = 0; i < 16; i++) view.setUint8(at + i, quants[i]! | (quants[i + 16]! << 4));
}

/** Eight sub-blocks of 32 with 6-bit scales and least values: what Q4_K and Q5_K share. Gives the quants, 0 to `most`. */
function superBlock(values: Float32Array, view: DataView, at: number, most: number): number[] {
  const subs = Array.from({ length: 8 }, (_, sub) => values.subarray(32 * sub, 32 * sub + 32));
  const leasts = subs.map((sub) => Math.max(0, -Math.min(...sub)));
  const scales = subs.map((sub, i) => Math.max(0, Math.max(...sub) + leasts[i]!) / most);
  const d = half(view, at, Math.max(...scales) / 63);
  const dmin = half(view, at + 2, Math.max(...leasts) / 63);
  const quants: number[] = [];
  subs.forEach((sub, i) => {
    const scale = clamp(Math.round(scales[i]! * inverse(d)), 0, 63);
    const least = clamp(Math.round(leasts[i]! * inverse(dmin)), 0, 63);
    for (const value of sub) quants.push(clamp(Math.round((value + dmin * least) * inverse(d * scale)), 0, most));
    const add = (byte: number, bits: number) => view.setUint8(at + 4 + byte, view.getUint8(at + 4 + byte) | bits);
    if (i < 4) {
      add(i, scale);
      add(i + 4, least);
    } else {
      add(i + 4, (scale & 15) | ((least & 15) << 4));
      add(i - 4, (scale >> 4) << 6);
      add(i, (least >> 4) << 6);
    }
  });
  return quants;
}

/** Low nibbles of a K super-block: sub-blocks 2c and 2c + 1 share the 32 bytes of chunk c. */
function superNibbles(view: DataView, at: number, quants: readonly number[]): void {
  for (let chunk = 0; chunk < 4; chunk++)
    for (let i = 0; i < 32; i++)
      view.setUint8(at + 32 * chunk + i, (quants[64 * chunk + i]! & 15) | ((quants[64 * chunk + 32 + i]! & 15) << 4));
}

const WRITERS: Record<TensorType, BlockWriter> = {
  F32: (values, view, at) => view.setFloat32(at, values[0]!, true),
  F16: (values, view, at) => view.setFloat16(at, values[0]!, true),
  BF16(values, view, at) {
    const bits = new Uint32Array(values.slice(0, 1).buffer)[0]!;
    view.setUint16(at, (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16, true);
  },
  Q4_0(values, view, at) {
    const scale = Math.fround(extreme(values) / -8);
    view.setFloat16(at, scale, true);
    nibbles(
      view,
      at + 2,
      Array.from(values, (value) => Math.min(15, Math.trunc(value * inverse(scale) + 8.5))),
    );
  },
  Q4_1(values, view, at) {
    const least = Math.min(...values);
    const scale = Math.fround((Math.max(...values) - least) / 15);
    view.setFloat16(at, scale, true);
    view.setFloat16(at + 2, least, true);
    nibbles(
      view,
      at + 4,
      Array.from(values, (value) => Math.min(15, Math.trunc((value - least) * inverse(scale) + 0.5))),
    );
  },
  Q8_0(values, view, at) {
    const scale = Math.fround(Math.max(...values.map(Math.abs)) / 127);
    view.setFloat16(at, scale, true);
    values.forEach((value, i) => {
      view.setInt8(at + 2 + i, Math.round(value * inverse(scale)));
    });
  },
  Q4_K(values, view, at) {
    superNibbles(view, at + 16, superBlock(values, view, at, 15));
  },
  Q5_K(values, view, at) {
    const quants = superBlock(values, view, at, 31);
    superNibbles(view, at + 48, quants);
    for (let i = 0; i < 32; i++) {
      let fifth = 0;
      for (let sub = 0; sub < 8; sub++) fifth |= (quants[32 * sub + i]! >> 4) << sub;
      view.setUint8(at + 16 + i, fifth);
    }
  },
  Q6_K(values, view, at) {
    const scales = Array.from({ length: 16 }, (_, sub) => extreme(values.subarray(16 * sub, 16 * sub + 16)) / -32);
    const d = half(view, at + 208, Math.max(...scales.map(Math.abs)) / 127);
    scales.forEach((wanted, sub) => {
      const scale = clamp(Math.round(wanted * inverse(d)), -127, 127);
      view.setInt8(at + 192 + sub, scale);
      for (let i = 0; i < 16; i++) {
        const element = 16 * sub + i;
        const q = clamp(Math.round(values[element]! * inverse(d * scale)), -32, 31) + 32;
        const [upper, quarter, within] = [element >> 7, (element >> 5) & 3, element & 31];
        const low = at + 64 * upper + 32 * (quarter & 1) + within;
        const high = at + 128 + 32 * upper + within;
        view.setUint8(low, view.getUint8(low) | ((q & 15) << (4 * (quarter >> 1))));
        view.setUint8(high, view.getUint8(high) | ((q >> 4) << (2 * quarter)));
      }
    });
  },
};

/** Bytes of whole rows; `values` holds whole blocks of the type. */
export function quantize(type: TensorType, values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(rowByteLength(type, values.length));
  const view = new DataView(bytes.buffer);
  const { elements, bytes: blockBytes } = BLOCK_LAYOUT[type];
  for (let block = 0; block * elements < values.length; block++)
    WRITERS[type](values.subarray(block * elements, (block + 1) * elements), view, block * blockBytes);
  return bytes;
}
