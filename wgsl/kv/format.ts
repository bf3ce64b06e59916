// How keys and values lie in the paged arena, for each element type: what the KV write stores and attention reads. Everything is 4-byte
// aligned, and a chunk of 8 dims is one element of the arena's WGSL array (two for f32), so that a lane brings it with one load.
//
//   arena of a layer   [block][plane], plane = k heads, then v heads
//   plane              [16 slots][headDim / 8 chunks], then, where quantised, 16 scales in f32
//
// int8: w = round(x / scale), scale = max|x| / 127; w = 0 where max|x| is up to LEAST_PEAK (quantize/storeBlock.ts).
// int4: the same with 7, eight to a word, dim 0 in the lowest bits; k, and q with it, are turned before (hadamard.ts).
// One scale per head and token: attention multiplies a score, or a softmax weight, by it once, and not each dim.

export const KV_FORMATS = ['f16', 'f32', 'int8', 'int4'] as const;
export type KvFormat = (typeof KV_FORMATS)[number];

/** Positions of a block. */
export const BLOCK_SLOTS = 16;
/** Dims that a lane reads or writes at once. */
export const CHUNK = 8;

interface Element {
  /** Type of the arena's elements in WGSL, and its bytes. */
  type: string;
  bytes: number;
  perChunk: number;
  /** Largest magnitude of a quantised dim; 0 where dims are stored as they are. */
  most: number;
}

const ELEMENTS: Record<KvFormat, Element> = {
  f32: { type: 'vec4f', bytes: 16, perChunk: 2, most: 0 },
  f16: { type: 'vec4u', bytes: 16, perChunk: 1, most: 0 },
  int8: { type: 'vec2u', bytes: 8, perChunk: 1, most: 127 },
  int4: { type: 'u32', bytes: 4, perChunk: 1, most: 7 },
};

export interface KvLayout extends Element {
  format: KvFormat;
  /** Elements of a row (one head of one token), and of a plane. */
  rowElements: number;
  planeElements: number;
}

export function kvLayout(format: KvFormat, headDim: number): KvLayout {
  const element = ELEMENTS[format];
  const rowElements = (headDim / CHUNK) * element.perChunk;
  const scales = element.most ? (BLOCK_SLOTS * 4) / element.bytes : 0;
  return { format, ...element, rowElements, planeElements: BLOCK_SLOTS * rowElements + scales };
}

/** Bytes of a block of 16 positions in one layer. */
export function kvBlockBytes(format: KvFormat, kvHeads: number, headDim: number): number {
  const { planeElements, bytes } = kvLayout(format, headDim);
  return 2 * kvHeads * planeElements * bytes;
}

/** WGSL statements that bring the chunk at element `at` of `arena` as `${name}A` and `${name}B`, vec4f each, without its scale. */
export function loadChunk({ format }: KvLayout, name: string, at: string): string {
  switch (format) {
    case 'f32':
      return `let ${name}A = arena[${at}]; let ${name}B = arena[${at} + 1u];`;
    case 'f16':
      return `let ${name}W = arena[${at}];
let ${name}A = vec4f(unpack2x16float(${name}W.x), unpack2x16float(${name}W.y));
let ${name}B = vec4f(unpack2x16float(${name}W.z), unpack2x16float(${name}W.w));`;
    case 'int8':
      return `let ${name}W = arena[${at}];
let ${name}A = vec4f(unpack4xI8(${name}W.x)); let ${name}B = vec4f(unpack4xI8(${name}W.y));`;
    case 'int4':
      return `let ${name}W = bitcast<i32>(arena[${at}]);
let ${name}A = vec4f((vec4i(${name}W) << vec4u(28u, 24u, 20u, 16u)) >> vec4u(28u));
let ${name}B = vec4f((vec4i(${name}W) << vec4u(12u, 8u, 4u, 0u)) >> vec4u(28u));`;
  }
}

/** WGSL expression: the scale of `slot` in the plane that begins at element `plane`. Only for quantised formats. */
export function loadScale({ format, rowElements }: KvLayout, plane: string, slot: string): string {
  const first = `${plane} + ${BLOCK_SLOTS * rowElements}u`;
  return format === 'int8'
    ? `bitcast<f32>(arena[${first} + (${slot}) / 2u][(${slot}) % 2u])`
    : `bitcast<f32>(arena[${first} + ${slot}])`;
}
