// How a weight matrix [rows, cols] lies in GPU memory: repacked once at load so that eight rows are computed per lane and every
// load is a contiguous vec4 per subgroup.
//
//   matrix = tiles; a tile = `lanes` lanes of 8 rows each (row = tile*8*lanes + 8*lane + window)
//   tile   = 8 quant windows (window w: the w-th row of every lane) + 2 scale windows (rows 0-3 and 4-7 of every lane)
//   quant window: vec4u[lane / 8][block][part][lane % 8]      a block = 32 columns = `parts` vec4u
//   scale window: vec4u[lane / 8][block][lane % 8]            one u32 = f16 scale (low) and f16 offset (high) of one row
//
// A window is at most 64 KiB in the uniform variant, so that it can be bound as a uniform buffer (software adapters read those without
// bounds checks; see docs/kernels.md); the storage variant binds a whole tile at once.
// Element order inside a block is by pairs: pair i = elements 2i and 2i+1, i = 0..15.
//   q4: word j holds pairs 4j..4j+3: pair 4j+s has its elements' (q) nibbles at bits 4s and 4s+16; value = (q-8)*scale + offset
//   q8: word j holds pairs 2j, 2j+1: bytes 0 and 2, bytes 1 and 3, each q+128; value = q*scale
//   f16: word i holds pair i as two halves;  f32: plain order

export const BLOCK = 32;
export const ROWS_PER_LANE = 8;
/** Lanes that read contiguously together; tiles hold a multiple of it. */
export const LANE_GROUP = 8;
/** Bytes of a uniform binding, and so of the largest window in the uniform variant: WebGPU's default limit, had everywhere. */
export const UNIFORM_WINDOW_BYTES = 65536;
/** Alignment of windows inside a buffer: the largest that WebGPU lets an adapter ask for. */
export const WINDOW_ALIGN = 256;

export type WeightKind = 'q4' | 'q8' | 'f16' | 'f32';

/** vec4u per block of 32 elements. */
export const PARTS: Record<WeightKind, number> = { q4: 1, q8: 2, f16: 4, f32: 8 };

export const hasScales = (kind: WeightKind): boolean => kind === 'q4' || kind === 'q8';

export interface MatrixLayout {
  kind: WeightKind;
  rows: number;
  cols: number;
  /** cols / 32. */
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
  const laneBytes = blocks * PARTS[kind] * 16;
  const maxLanes = Math.floor(maxWindowBytes / laneBytes / LANE_GROUP) * LANE_GROUP;
  if (maxLanes === 0) return null;
  const needed = Math.ceil(rows / ROWS_PER_LANE);
  const tiles = Math.ceil(needed / maxLanes);
  const lanes = alignUp(Math.ceil(needed / tiles), LANE_GROUP);
  const windowBytes = alignUp(lanes * laneBytes, WINDOW_ALIGN);
  const scaleBytes = hasScales(kind) ? alignUp(lanes * blocks * 16, WINDOW_ALIGN) : 0;
  const tileBytes = ROWS_PER_LANE * windowBytes + 2 * scaleBytes;
  return { kind, rows, cols, blocks, tiles, lanes, windowBytes, scaleBytes, tileBytes };
}

/** Where row `row` lies: its tile, its lane in it, its window. */
export function placeRow(layout: MatrixLayout, row: number): { tile: number; lane: number; window: number } {
  const perTile = layout.lanes * ROWS_PER_LANE;
  const inTile = row % perTile;
  return { tile: Math.floor(row / perTile), lane: Math.floor(inTile / ROWS_PER_LANE), window: inTile % ROWS_PER_LANE };
}
