// The norm before a matrix over a sweep of widths, tokens and rows wanted, for both classes of activations: with every number of lanes the same
// bits, and what they stand for against the definition. Tokens that no row wants stay as they are.
import { describe, expect, test } from 'vitest';
import { expectActivations } from '../../test/support/activations.ts';
import { testDevice } from '../../test/support/gpu.ts';
import { randomOf } from '../../test/support/random.ts';
import { prepareNormalize, runRows } from '../../test/support/rowKernels.ts';
import { storedWords } from '../quantize/reference.ts';
import { normalizeReference } from './reference.ts';
import { normalizeLanes } from './shader.ts';

const EPSILON = 1e-5;
const UNTOUCHED = 0x7fc0_0001;
const LANES = [...normalizeLanes(true), ...normalizeLanes(false)];

/** Rows: every token, or some of them, last one first, as a step's wanted rows may be. */
const every = (tokens: number): number[] => Array.from({ length: tokens }, (_, i) => i);
const thirds = (tokens: number): number[] =>
  every(tokens)
    .filter((token) => token % 3 === 1)
    .toReversed();
const ROWS = [every(1), every(3), every(70), thirds(70)];

/** One block, fewer than lanes, SmolLM2's, more than lanes, more than parts of the sum. */
const WIDTHS = [32, 96, 576, 2112, 8224];

describe.each(['f32', 'int8'] as const)('%s', (format) => {
  test.each(WIDTHS)(
    '%i wide: the sum of both, normalised, with the same bits by any number of lanes',
    async (width) => {
      const gpu = await testDevice();
      const random = randomOf(width);
      const numbers = (count: number): Float32Array<ArrayBuffer> =>
        Float32Array.from({ length: count }, () => random() * 4 - 2);
      const weight = numbers(width);
      for (const rows of ROWS) {
        const tokens = Math.max(...rows) + 2;
        const given = {
          format,
          weight,
          epsilon: EPSILON,
          hidden: numbers(tokens * width),
          delta: numbers(tokens * width),
        };
        const perRow = (width / 32) * storedWords(format);
        const [first, ...others] = await Promise.all(
          LANES.map(async (lanes) => {
            const activations = new Uint32Array((rows.length + 1) * perRow).fill(UNTOUCHED);
            const rowToken = Uint32Array.from(rows);
            return runRows(gpu, await prepareNormalize(gpu, { ...given, lanes, rowToken, activations }));
          }),
        );
        for (const [i, other] of others.entries()) expect(other, `${LANES[i + 1]} lanes`).toEqual(first);

        const { hidden, activations } = first!;
        const after = given.hidden.slice();
        for (const [row, token] of rows.entries()) {
          const of = (all: Float32Array): Float32Array => all.subarray(token * width, (token + 1) * width);
          const { sum, normed } = normalizeReference(of(given.hidden), of(given.delta), weight, EPSILON);
          after.set(sum, token * width);
          const own = activations.subarray(row * perRow, (row + 1) * perRow);
          expectActivations(format, own, normed, 2e-6, `seed ${width}, row ${row} of ${rows.length}`);
        }
        expect(new Float32Array(hidden.buffer)).toEqual(after);
        expect(new Set(activations.subarray(rows.length * perRow))).toEqual(new Set([UNTOUCHED]));
      }
    },
  );
});
