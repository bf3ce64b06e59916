// Operations that take the matrix kernel's sums from registers, against the kernels that they save: the same bits, for every number of columns, in both
// ways of exchange.
import { describe, expect, test } from 'vitest';
import { ProblemBuffers } from '../../engine/llama/problemBuffers.ts';
import { download, submit, testDevice } from '../../test/support/gpu.ts';
import { type FusedCase, type MatmulCase, prepareMatmul, runMatmul, variantsOf } from '../../test/support/matmulRig.ts';
import { quantize } from '../../test/support/quantize.ts';
import { randomOf } from '../../test/support/random.ts';
import { prepareQuantize, prepareRope, runRows } from '../../test/support/rowKernels.ts';
import type { KvShape } from '../attention/shape.ts';
import { BLOCK_SLOTS, kvBlockBytes } from '../kv/format.ts';
import { gatedEpilogue } from '../quantize/gatedEpilogue.ts';
import { ropeEpilogue } from '../rope/epilogue.ts';
import { NO_SLOT, placesOf } from '../rope/place.ts';
import { TOKEN_GROUP } from './layout.ts';
import { type Activations, X_PARTS } from './variant.ts';

const gpu = await testDevice();
const COLS = 96;
const UNTOUCHED = 0x7e017e01;
/** With and without a subgroup to exchange through. Storage weights differ in nothing that an epilogue sees, and take long to compile. */
const FORMS = [
  { weights: 'uniform', broadcast: true },
  { weights: 'uniform', broadcast: false },
] as const;

function sample({ type, rows, tokens }: MatmulCase): { source: Uint8Array; x: Float32Array } {
  const random = randomOf(rows + tokens);
  const values = Float32Array.from({ length: rows * COLS }, () => (random() + random() - 1) * 0.3);
  return { source: quantize(type, values), x: Float32Array.from({ length: tokens * COLS }, () => random() * 4 - 2) };
}

/** Words of `out` and of the bindings after the product of each number of columns. */
async function fusedWords(
  given: MatmulCase,
  fusedOf: (made: ProblemBuffers) => FusedCase,
): Promise<{ columns: number; out: Uint32Array; bound: Uint32Array[] }[]> {
  const { source, x } = sample(given);
  const all: { columns: number; out: Uint32Array; bound: Uint32Array[] }[] = [];
  for (const variant of variantsOf(gpu, given)) {
    const made = new ProblemBuffers(gpu.device, 'fused');
    const fused = fusedOf(made);
    const prepared = await prepareMatmul(gpu, given, variant, source, x, fused);
    submit(gpu.device, prepared.encode);
    const [out, ...bound] = await Promise.all(
      [fused.out, ...fused.bindings].map(async (buffer) => new Uint32Array(await download(gpu.device, buffer))),
    );
    all.push({ columns: variant.columns, out: out!, bound });
    prepared.destroy();
    made.destroy();
  }
  return all;
}

describe.each(FORMS)('broadcast $broadcast', (form) => {
  const shapes: KvShape[] = [
    { heads: 3, kvHeads: 1, headDim: 64, ropeDim: 64 },
    { heads: 2, kvHeads: 2, headDim: 80, ropeDim: 32 },
  ];
  test.each(['f16', 'f32'] as const)('rotation and the KV write in %s', async (format) => {
    const tokens = 5;
    for (const shape of shapes) {
      const { heads, kvHeads, headDim, ropeDim } = shape;
      const rows = (heads + 2 * kvHeads) * headDim;
      const given: MatmulCase = { type: 'Q4_1', activations: 'int8', rows, cols: COLS, tokens, ...form };
      const { source, x } = sample(given);
      const slots = Uint32Array.from({ length: tokens }, (_, t) => (13 * t + 3) % (3 * BLOCK_SLOTS));
      const rotation = Float32Array.from({ length: TOKEN_GROUP * ropeDim }, (_, i) =>
        i % 2 ? Math.sin(i >> 1) : Math.cos(i >> 1),
      );
      const arena = new Uint32Array((3 * kvBlockBytes(format, kvHeads, headDim)) / 4).fill(UNTOUCHED);
      const qkv = new Float32Array(await runMatmul(gpu, given, variantsOf(gpu, given)[0]!, source, x));
      const rope = await prepareRope(gpu, { shape, format, qkv, slots, rotation, arena });
      const expected = await runRows(gpu, rope);
      const padded = new Uint32Array(TOKEN_GROUP).fill(NO_SLOT);
      padded.set(slots);
      const fused = await fusedWords(given, (made) => ({
        ...{ epilogue: ropeEpilogue(shape, format), interleaved: false, outStride: rows },
        outGroupBytes: TOKEN_GROUP * rows * 4,
        out: made.filled('out', new Uint32Array(TOKEN_GROUP * rows)),
        bindings: [made.filled('arena', arena), made.filled('places', placesOf(rotation, padded, ropeDim))],
      }));
      for (const { columns, out, bound } of fused) {
        expect(bound[0]!.subarray(0, arena.length), `${columns} columns: arena`).toEqual(expected.arena);
        for (let token = 0; token < tokens; token++) {
          const q = [token * rows, token * rows + heads * headDim] as const;
          expect(out.subarray(...q), `${columns} columns: q of token ${token}`).toEqual(expected.qkv.subarray(...q));
        }
      }
    }
  });

  test.each(['int8', 'f32'] as const)('SiLU of gate, times up, as %s', async (format: Activations) => {
    const [width, tokens] = [96, 6];
    const blocks = width / 32;
    const given: MatmulCase = { type: 'Q4_1', activations: 'int8', rows: 2 * width, cols: COLS, tokens, ...form };
    const { source, x } = sample(given);
    const rows = new Float32Array(await runMatmul(gpu, given, variantsOf(gpu, given)[0]!, source, x));
    const words = tokens * blocks * X_PARTS[format] * 4;
    const kernel = { source: 'gated', format, width, tokens, rows, activations: new Uint32Array(words) } as const;
    const { activations } = await runRows(gpu, await prepareQuantize(gpu, kernel));
    const outGroupBytes = TOKEN_GROUP * blocks * X_PARTS[format] * 16;
    const fused = await fusedWords(given, (made) => ({
      ...{ epilogue: gatedEpilogue(format), interleaved: true, outStride: blocks, outGroupBytes, bindings: [] },
      out: made.filled('out', new Uint32Array(outGroupBytes / 4)),
    }));
    for (const { columns, out } of fused)
      expect(out.subarray(0, words), `${columns} columns`).toEqual(activations.subarray(0, words));
  });
});
