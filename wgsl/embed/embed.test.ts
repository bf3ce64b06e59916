// Embedding rows of every tensor type, over widths, tokens and vocabularies of several tiles in several buffers. What is rounded once gives the bits of
// the definition; and the definition gives the values that the file's bytes stand for.
import { describe, expect, test } from 'vitest';
import { dequantize } from '../../engine/model/dequantize.ts';
import { TENSOR_TYPES, type TensorType } from '../../engine/model/types.ts';
import { testDevice, upload } from '../../test/support/gpu.ts';
import { expectNear } from '../../test/support/near.ts';
import { quantize } from '../../test/support/quantize.ts';
import { randomOf } from '../../test/support/random.ts';
import { prepareEmbed, runRows } from '../../test/support/rowKernels.ts';
import { KINDS, LANE_GROUP, laneBytes, layoutMatrix, type MatrixLayout } from '../matmul/layout.ts';
import { KIND_OF, packRows } from '../matmul/pack.ts';
import { embedReference } from './reference.ts';

const UNTOUCHED = 0x7fc0_0001;
const TOKENS = [1, 3, 17, 70];
/** Of the vocabulary: less than a lane, one tile, several tiles, the last of which isn't full. */
const ROWS = [5, 51, 331];
/** Tiles per buffer. */
const PART_TILES = 2;
const spansOf = (type: TensorType): number[] => (KINDS[KIND_OF[type]].span === 1 ? [32, 96, 576] : [256, 768]);

interface Vocabulary {
  layout: MatrixLayout;
  words: Uint32Array<ArrayBuffer>;
  /** What the file's bytes stand for, [rows, cols]. */
  values: Float32Array;
}

function vocabulary(type: TensorType, rows: number, cols: number, random: () => number): Vocabulary {
  const source = quantize(
    type,
    Float32Array.from({ length: rows * cols }, () => (random() + random() + random() - 1.5) * 0.2),
  );
  const values = new Float32Array(rows * cols);
  dequantize(type, source, values);
  const kind = KIND_OF[type];
  // Windows of 16 lanes: a tile is 128 rows.
  const layout = layoutMatrix(kind, rows, cols, 2 * LANE_GROUP * laneBytes(kind, cols / 32).quants);
  if (!layout) throw new Error('a group of lanes fits');
  const words = new Uint32Array((layout.tiles * layout.tileBytes) / 4);
  packRows(layout, type, source, 0, rows, words);
  return { layout, words, values };
}

describe.each(TENSOR_TYPES)('%s', (type) => {
  test('rows of the tokens, and zeros for what is to be added', async () => {
    const gpu = await testDevice();
    for (const cols of spansOf(type))
      for (const rows of ROWS) {
        const random = randomOf(rows * 1000 + cols);
        const { layout, words } = vocabulary(type, rows, cols, random);
        const parts = [];
        for (let firstTile = 0; firstTile < layout.tiles; firstTile += PART_TILES) {
          const tiles = Math.min(PART_TILES, layout.tiles - firstTile);
          const perTile = layout.tileBytes / 4;
          const own = words.slice(firstTile * perTile, (firstTile + tiles) * perTile);
          parts.push({ buffer: upload(gpu.device, own, GPUBufferUsage.STORAGE), firstTile, tiles });
        }
        for (const tokens of TOKENS) {
          const ids = Uint32Array.from({ length: tokens }, () => Math.floor(random() * rows));
          ids[tokens - 1] = rows - 1;
          const before = new Float32Array(new Uint32Array((tokens + 1) * cols).fill(UNTOUCHED).buffer);
          // A part writes its own tokens only, whichever comes last.
          const matrix = { layout, parts: tokens % 2 ? parts : parts.toReversed() };
          const given = { matrix, ids, hidden: before, delta: before };
          const { hidden, delta } = await runRows(gpu, await prepareEmbed(gpu, given));
          const name = `seed ${rows * 1000 + cols}, ${tokens} tokens of ${rows} × ${cols}`;
          for (const [token, id] of ids.entries()) {
            const own = hidden.subarray(token * cols, (token + 1) * cols);
            expectRow(type, own, embedReference(layout, words, id), `${name}, token ${token}`);
          }
          expect(new Set(delta.subarray(0, tokens * cols)), name).toEqual(new Set([0]));
          for (const buffer of [hidden, delta])
            expect(new Set(buffer.subarray(tokens * cols)), `${name}: beyond them`).toEqual(new Set([UNTOUCHED]));
        }
        for (const { buffer } of parts) buffer.destroy();
      }
  });

  test('the definition is what the file says', () => {
    for (const cols of spansOf(type)) {
      const { layout, words, values } = vocabulary(type, 331, cols, randomOf(cols));
      for (let row = 0; row < 331; row++) {
        const own = values.subarray(row * cols, (row + 1) * cols);
        const exact = embedReference(layout, words, row);
        // Q4_1's offset is rounded to a half where it is packed: half an ulp of a value that lies between the block's.
        const allowed = (i: number): number => (type === 'Q4_1' ? 2 ** -11 * largestBeside(own, i) : 0);
        expectNear(Float32Array.from(exact), own, allowed, `row ${row}`);
      }
    }
  });
});

/** The bits of the exact value rounded once; Q4_K and Q5_K round their offset, which lies between the block's values, before. */
function expectRow(type: TensorType, words: Uint32Array<ArrayBuffer>, exact: Float64Array, name: string): void {
  const values = new Float32Array(words.buffer, words.byteOffset, words.length);
  if (type !== 'Q4_K' && type !== 'Q5_K') expectNear(values, Float32Array.from(exact), () => 0, name);
  else expectNear(values, exact, (i) => 2 ** -24 * (Math.abs(exact[i]!) + largestBeside(exact, i)), name);
}

/** The largest magnitude in the block of element i. */
function largestBeside(row: Float32Array | Float64Array, i: number): number {
  const first = i - (i % 32);
  let most = 0;
  for (let j = first; j < first + 32; j++) most = Math.max(most, Math.abs(row[j]!));
  return most;
}
