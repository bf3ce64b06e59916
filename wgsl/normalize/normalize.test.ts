// The norm before a matrix, with every number of lanes: the same bits; and what they stand for, against plain f64.
import { expect, test } from 'vitest';
import { Pipelines } from '../../engine/llama/pipelines.ts';
import { normalizeLabel } from '../../engine/llama/tuneNormalize.ts';
import { dispatchOnce, download, testDevice, upload } from '../../test/support/gpu.ts';
import { randomOf } from '../../test/support/random.ts';
import { normalizeLanes, normalizeShader } from './shader.ts';

const TOKENS = 3;
const EPSILON = 1e-5;
const LANES = [...normalizeLanes(true), ...normalizeLanes(false)];

/** One block, fewer than lanes, more than lanes, more than parts of the sum. */
test.each([32, 576, 2112, 8224])(
  '%i wide: the sum of both, normalised, with the same bits by any number of lanes',
  async (width) => {
    const { device } = await testDevice();
    const pipelines = new Pipelines(device);
    const random = randomOf(width);
    const numbers = (count: number): Float32Array => Float32Array.from({ length: count }, () => random() * 4 - 2);
    const [hidden, delta, weight] = [numbers(TOKENS * width), numbers(TOKENS * width), numbers(width)];
    const { STORAGE, UNIFORM, COPY_SRC } = GPUBufferUsage;
    const params = new Uint32Array(4);
    params[0] = width / 32;
    new Float32Array(params.buffer)[1] = EPSILON;
    const results: Uint32Array[] = [];
    for (const lanes of LANES) {
      const pipeline = await pipelines.get(normalizeLabel('f32', lanes), () => normalizeShader('f32', lanes));
      const sum = upload(device, hidden, STORAGE);
      const out = device.createBuffer({ size: TOKENS * width * 4, usage: STORAGE | COPY_SRC });
      const order = upload(device, Uint32Array.of(0, 1, 2), STORAGE);
      const constants = [upload(device, weight, STORAGE), order, out, upload(device, params, UNIFORM)];
      dispatchOnce(device, pipeline, [sum, upload(device, delta, STORAGE), ...constants], TOKENS);
      const added = new Float32Array(await download(device, sum, TOKENS * width * 4));
      expect(added).toEqual(hidden.map((value, i) => value + delta[i]!));
      results.push(new Uint32Array(await download(device, out)));
    }
    for (const [i, bits] of results.entries()) expect(bits, `${LANES[i]} lanes`).toEqual(results[0]);

    const actual = new Float32Array(results[0]!.buffer);
    for (let token = 0; token < TOKENS; token++) {
      const row = Array.from({ length: width }, (_, i) =>
        Math.fround(hidden[token * width + i]! + delta[token * width + i]!),
      );
      const factor = 1 / Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / width + EPSILON);
      for (const [i, value] of row.entries()) {
        const expected = value * factor * weight[i]!;
        expect(Math.abs(actual[token * width + i]! - expected)).toBeLessThanOrEqual(2e-6 * Math.abs(expected) + 1e-9);
      }
    }
  },
);
