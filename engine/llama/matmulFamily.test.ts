// Which variant a step gets while others are still being compiled.
import { expect, test } from 'vitest';
import { testDevice } from '../../test/support/gpu.ts';
import type { Columns } from '../../wgsl/matmul/variant.ts';
import { MatmulFamily } from './matmulFamily.ts';

/** Compilations that end when they are told to, each with a real pipeline. */
async function compilations() {
  const { device } = await testDevice();
  const module = device.createShaderModule({ code: '@compute @workgroup_size(1) fn main() {}' });
  const asked: Columns[] = [];
  const ends = new Map<Columns, (error?: Error) => void>();
  const compile = (columns: Columns): Promise<GPUComputePipeline> => {
    asked.push(columns);
    const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
    if (columns === 1 || columns === 4) return Promise.resolve(pipeline);
    return new Promise((resolve, reject) => {
      ends.set(columns, (error) => (error ? reject(error) : resolve(pipeline)));
    });
  };
  return { compile, asked, ends };
}

test('a start waits for 1 and 4; 3 is asked for once, stood in for, and taken when it is there', async () => {
  const { compile, asked, ends } = await compilations();
  const family = await MatmulFamily.create(compile);
  expect(asked).toEqual([1, 4]);
  expect([1, 4, 16].map((rows) => family.columnsFor(rows))).toEqual([1, 4, 4]);
  expect(asked).toEqual([1, 4]);
  expect([family.columnsFor(3), family.columnsFor(3)]).toEqual([4, 4]);
  expect(asked).toEqual([1, 4, 3]);
  ends.get(3)?.();
  await new Promise((resolve) => setImmediate(resolve));
  expect(family.columnsFor(3)).toBe(3);
  expect(family.pipeline(3)).toBeInstanceOf(GPUComputePipeline);
});

test('a variant that is refused is done without', async () => {
  const { compile, asked, ends } = await compilations();
  const family = await MatmulFamily.create(compile);
  family.columnsFor(2);
  ends.get(2)?.(new Error('refused'));
  await new Promise((resolve) => setImmediate(resolve));
  expect([1, 4]).toContain(family.columnsFor(2));
  expect(asked).toEqual([1, 4, 2]);
});
