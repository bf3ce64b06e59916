// How a weight matrix [rows, cols] lies in GPU memory: repacked once at load so that eight rows are computed per lane and every
// load is a contiguous vec4 per subgroup.
//
//   matrix = tiles; a tile = `lanes` lanes of 8 rows each (row = tile*8*lanes + 8*lane + window)
//   tile   = 8 quant windows (window w: the w-th row of every lane) + 2 scale windows (rows 0-3 and 4-7 of every lane)
//   quant window: vec4u[lane / 8][span][part][lane % 8]       a span = 1 block of 32 columns, or 8 of them (256 columns) for q4k, q5k, q6k
//   scale window: vec4u[lane / 8][span][part][lane % 8]       a vec4's components are the four rows
//
// A window is at most 64 KiB in the uniform variant, so that it can be bound as a uniform buffer (software adapters read those without
// bounds checks; see docs/kernels.md); the storage variant binds a whole tile at once.
// Element order inside a block is by pairs: pair i = elements 2i and 2i+1, i = 0..15.
//   q4: word j holds pairs 4j..4j+3: pair 4j+s has its elements' (q) nibbles at bits 4s and 4s+16; value = (q-8)*scale + offset
//   q8: word j holds pairs 2j, 2j+1: bytes 0 and 2, bytes 1 and 3, each q+128; value = q*scale
//   f16, bf16: word i holds pair i as two halves;  f32: plain order
//   q4k: 8 vec4 as q4, one per block; value = q*d*scale - dmin*least
//   q5k: the same, then 2 vec4: word b has the fifth bits of block b, pair i at bits i and i+16
//   q6k: the same as q4k, then 4 vec4: words 2b, 2b+1 have the upper two bits of block b, pair 8w+i at bits 2i and 2i+16 of word 2b+w
// Scales: q4: a word = f16 scale (low) and f16 offset (high); q8: f16 scale. The k kinds keep the file's integers, so nothing is rounded:
// vec4 j of 5 holds blocks 2j and 2j+1 in 16 bits each (low byte: scale, high byte: least; q6k: the i8 scales of its two halves of 16),
// vec4 4 holds f16 d and dmin.

export const BLOCK = 32;
export const ROWS_PER_LANE = 8;
/** Lanes that read contiguously together; tiles hold a multiple of it. */
export const LANE_GROUP = 8;
/** Tokens that share one dynamic offset of x and out. 16 · 80 bytes is a multiple of 256 for any number of blocks. */
export const TOKEN_GROUP = 16;
/** Bytes of a uniform binding, and so of the largest window in the uniform variant: WebGPU's default limit, had everywhere. */
export const UNIFORM_WINDOW_BYTES = 65536;
/** Alignment of windows inside a buffer: the largest that WebGPU lets an adapter ask for. */
export const WINDOW_ALIGN = 256;

/** How one kind of weight is stored: `span` blocks together, and its vec4u in a quant window and in each scale window. */
export interface KindLayout {
  span: 1 | 8;
  quantParts: number;
  scaleParts: 0 | 1 | 5;
}

export const KINDS = {
  q4: { span: 1, quantParts: 1, scaleParts: 1 },
  q8: { span: 1, quantParts: 2, scaleParts: 1 },
  q4k: { span: 8, quantParts: 8, scaleParts: 5 },
  q5k: { span: 8, quantParts: 10, scaleParts: 5 },
  q6k: { span: 8, quantParts: 12, scaleParts: 5 },
  f16: { span: 1, quantParts: 4, scaleParts: 0 },
  bf16: { span: 1, quantParts: 4, scaleParts: 0 },
  f32: { span: 1, quantParts: 8, scaleParts: 0 },
} as const satisfies Record<string, KindLayout>;

export type WeightKind = keyof typeof KINDS;

/** Quantised kinds: they have scales, and their products with int8 activations are exact. */
export const hasScales = (kind: WeightKind): boolean => KINDS[kind].scaleParts > 0;

export interface MatrixLayout {
  kind: WeightKind;
  rows: number;
  cols: number;
  /** cols / 32; a multiple of the kind's span. */
  blocks: number;
  tiles: number;
  lanes: number;
  /** Bytes from one quant window to the next, from tile to tile, of a scale window (0 without scales). */
  windowBytes: number;
  scaleBytes: number;
  tileBytes: number;
}

const alignUp = (value: number, to: number): number => Math.ceil(value / to) * to;

/**
 * Layout of a matrix whose windows hold at most `maxWindowBytes` each. Null when not even one group of lanes fits: then this variant
 * can't hold the matrix.
 */
export function layoutMatrix(
  kind: WeightKind,
  rows: number,
  cols: number,
  maxWindowBytes: number,
): MatrixLayout | null {
  const blocks = cols / BLOCK;
  const maxLanes = Math.floor(maxWindowBytes / laneBytes(kind, blocks).quants / LANE_GROUP) * LANE_GROUP;
  if (maxLanes === 0) return null;
  const needed = Math.ceil(rows / ROWS_PER_LANE);
  const tiles = Math.ceil(needed / maxLanes);
  return withTiles(kind, rows, cols, tiles, alignUp(Math.ceil(needed / tiles), LANE_GROUP));
}

/** Layout of `lanes` lanes of a matrix by themselves, as one tile: what is packed and uploaded at once. */
export const pieceLayout = ({ kind, cols }: MatrixLayout, lanes: number): MatrixLayout =>
  withTiles(kind, lanes * ROWS_PER_LANE, cols, 1, lanes);

/** Bytes of a lane in a quant window and in a scale window. */
export function laneBytes(kind: WeightKind, blocks: number): { quants: number; scales: number } {
  const { span, quantParts, scaleParts } = KINDS[kind];
  return { quants: (blocks / span) * quantParts * 16, scales: (blocks / span) * scaleParts * 16 };
}

function withTiles(kind: WeightKind, rows: number, cols: number, tiles: number, lanes: number): MatrixLayout {
  const blocks = cols / BLOCK;
  const { quants, scales } = laneBytes(kind, blocks);
  const windowBytes = alignUp(lanes * quants, WINDOW_ALIGN);
  const scaleBytes = alignUp(lanes * scales, WINDOW_ALIGN);
  const tileBytes = ROWS_PER_LANE * windowBytes + 2 * scaleBytes;
  return { kind, rows, cols, blocks, tiles, lanes, windowBytes, scaleBytes, tileBytes };
}

/** Where row `row` lies: its tile, its lane in it, its window. */
export function placeRow(layout: MatrixLayout, row: number): { tile: number; lane: number; window: number } {
  const perTile = layout.lanes * ROWS_PER_LANE;
  const inTile = row % perTile;
  return { tile: Math.floor(row / perTile), lane: Math.floor(inTile / ROWS_PER_LANE), window: inTile % ROWS_PER_LANE };
}
