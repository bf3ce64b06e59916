// The embedding on the CPU: an element at a time from the words of the packed matrix, as the drawing in matmul/layout.ts has them, and exact: each
// product and sum of the drawing fits f64.
import { BLOCK, KINDS, LANE_GROUP, type MatrixLayout, placeRow, type WeightKind } from '../matmul/layout.ts';

/** Row `row` of the packed matrix, [cols]. */
export function embedReference(layout: MatrixLayout, words: Uint32Array, row: number): Float64Array {
  const { kind, blocks } = layout;
  const { span, quantParts, scaleParts } = KINDS[kind];
  const { tile, lane, window } = placeRow(layout, row);
  const tileAt = tile * layout.tileBytes;
  const quantsAt = (tileAt + window * layout.windowBytes) / 4;
  const scalesAt = (tileAt + 8 * layout.windowBytes + (window >> 2) * layout.scaleBytes) / 4;
  const spansBefore = Math.floor(lane / LANE_GROUP) * (blocks / span);
  const vec4At = (at: number, parts: number, block: number, part: number): number =>
    at + 4 * (((spansBefore + Math.floor(block / span)) * parts + part) * LANE_GROUP + (lane % LANE_GROUP));
  return Float64Array.from({ length: blocks * BLOCK }, (_, column) => {
    const block = Math.floor(column / BLOCK);
    const quants: Words = (part, component) => words[vec4At(quantsAt, quantParts, block, part) + component]!;
    const scales = (part: number): number => words[vec4At(scalesAt, scaleParts, block, part) + (window & 3)]!;
    const element = { pair: (column % BLOCK) >> 1, half: column & 1, inner: block % span };
    return valueIn(kind, element, quants, scales);
  });
}

/** Component 0..3 of a block's or span's vec4 `part`. */
type Words = (part: number, component: number) => number;

/** An element's pair in its block, its place in the pair, and the block's index in its span. */
interface Element {
  pair: number;
  half: number;
  inner: number;
}

function valueIn(kind: WeightKind, element: Element, quants: Words, scales: (part: number) => number): number {
  const { pair, half, inner } = element;
  const upper = 16 * half;
  const bytesOf = (word: number): number => (word >>> (16 * (inner & 1))) & 0xffff;
  switch (kind) {
    case 'f32':
      return floatOf(quants(pair >> 1, 2 * (pair & 1) + half));
    case 'f16':
      return halfOf(quants(pair >> 2, pair & 3) >>> upper);
    case 'bf16':
      return floatOf((quants(pair >> 2, pair & 3) >>> upper) << 16);
    case 'q8':
      return (field(quants(pair >> 3, (pair >> 1) & 3), 8 * (pair & 1) + upper, 8) - 128) * halfOf(scales(0));
    case 'q4':
      return (nibbleOf(element, 0, quants) - 8) * halfOf(scales(0)) + halfOf(scales(0) >>> 16);
    case 'q4k':
    case 'q5k': {
      const fifth = kind === 'q5k' ? field(quants(8 + (inner >> 2), inner & 3), pair + upper, 1) : 0;
      const bytes = bytesOf(scales(inner >> 1));
      const step = halfOf(scales(4)) * (bytes & 255);
      return (nibbleOf(element, inner, quants) + 16 * fifth) * step - halfOf(scales(4) >>> 16) * (bytes >> 8);
    }
    case 'q6k': {
      const word = 2 * inner + (pair >> 3);
      const top = field(quants(8 + (word >> 2), word & 3), 2 * (pair & 7) + upper, 2);
      const scale = (bytesOf(scales(inner >> 1)) << (pair < 8 ? 24 : 16)) >> 24;
      return (nibbleOf(element, inner, quants) + 16 * top - 32) * halfOf(scales(4)) * scale;
    }
  }
}

const field = (word: number, at: number, bits: number): number => (word >>> at) & (2 ** bits - 1);

const nibbleOf = ({ pair, half }: Element, part: number, quants: Words): number =>
  field(quants(part, pair >> 2), 4 * (pair & 3) + 16 * half, 4);

const floatOf = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
const halfOf = (bits: number): number => new Float16Array(Uint16Array.of(bits).buffer)[0]!;
