// The tuner on a real device, over candidates that differ in what they compute and in how long it takes.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { testDevice } from '../../test/support/gpu.ts';
import { clockFor } from '../gpu/deviceClock.ts';
import type { Candidate, Tunable } from './tunable.ts';
import { Tuner, type TunerOptions } from './tuner.ts';
import { readVerdicts, VerdictFile } from './verdictFile.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-tuner-'));
  path = join(folder, 'tuning.json');
});
afterEach(() => rm(folder, { recursive: true }));

const ELEMENTS = 4096;
const shader = (turns: number, value: string): string => `
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = 0.0;
  for (var i = 0u; i < ${turns}u; i++) { sum = fma(sum, 0.5, f32((id.x + i) % 7u)); }
  out[id.x] = ${value};
}`;

interface Given {
  name: string;
  turns: number;
  value: string;
}
const RULE: Given = { name: 'rule', turns: 4000, value: 'f32(id.x) + min(sum, 0.0)' };
const FASTER: Given = { name: 'faster', turns: 500, value: 'f32(id.x) + min(sum, 0.0)' };
/** Faster still, and wrong in one element's last bit. */
const WRONG: Given = { name: 'wrong', turns: 4, value: 'select(f32(id.x), 3000.00025, id.x == 3000u) + min(sum, 0.0)' };
const REFUSED: Given = { name: 'refused', turns: 1, value: 'what is this' };

async function tunableOf(given: readonly Given[], made: string[] = []): Promise<Tunable> {
  const { device } = await testDevice();
  return {
    ...{
      name: 'sums',
      names: given.map(({ name }) => name),
      sources: given.map((each) => JSON.stringify(each)).join(),
    },
    problem: async () => {
      const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
      const result = device.createBuffer({ size: ELEMENTS * 4, usage: STORAGE | COPY_SRC | COPY_DST });
      const candidates = given.map(
        ({ name, turns, value }): Candidate => ({
          name,
          async prepare() {
            made.push(name);
            const module = device.createShaderModule({ code: shader(turns, value) });
            const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
            const entries = [{ binding: 0, resource: { buffer: result } }];
            const bindGroup = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
            const run = (pass: GPUComputePassEncoder): void => {
              pass.setPipeline(pipeline);
              pass.setBindGroup(0, bindGroup);
              pass.dispatchWorkgroups(ELEMENTS / 64);
            };
            return { check: run, run };
          },
        }),
      );
      return { candidates, result, destroy: () => result.destroy() };
    },
  };
}

async function tunerOf(more: Partial<TunerOptions> = {}): Promise<Tuner> {
  const { device, software } = await testDevice();
  return new Tuner({
    ...{ device, clock: clockFor(software), now: () => performance.now(), file: await VerdictFile.open(path, 'here') },
    ...{ budgetMs: 60_000, onProgress: () => {}, onNotice: () => {} },
    ...more,
  });
}

test('the fastest of those with the same bits is taken, and stored; another start measures nothing', async () => {
  const made: string[] = [];
  const tunable = await tunableOf([RULE, FASTER, WRONG], made);
  const verdict = await (await tunerOf()).settle(tunable, 1);
  expect(verdict).toMatchObject({ chosen: 'faster', why: 'measured', dropped: ['wrong'] });
  expect(Object.keys(verdict.seconds)).toEqual(['rule', 'faster']);
  expect(verdict.seconds.faster! * 2).toBeLessThan(verdict.seconds.rule!);
  expect(made).toEqual(['rule', 'faster', 'wrong']);
  expect(await (await tunerOf()).settle(tunable, 1)).toEqual({ ...verdict, why: 'stored' });
  expect(made).toHaveLength(3);
});

test('one that the driver refuses is dropped', async () => {
  const { device } = await testDevice();
  device.pushErrorScope('validation');
  const verdict = await (await tunerOf()).settle(await tunableOf([RULE, REFUSED]), 1);
  expect(await device.popErrorScope()).not.toBeNull();
  expect(verdict).toMatchObject({ chosen: 'rule', why: 'measured', dropped: ['refused'] });
});

test('without time it is the rule, and the next start goes on', async () => {
  let now = 0;
  const made: string[] = [];
  const tunable = await tunableOf([RULE, FASTER], made);
  const late = await tunerOf({ now: () => now, onProgress: () => (now += 1000), budgetMs: 1500 });
  expect(await late.settle(tunable, 1)).toMatchObject({ chosen: 'rule', why: 'rule', dropped: [] });
  expect(made).toEqual(['rule']);
  expect(await readVerdicts(path)).toEqual([]);
  expect(await (await tunerOf()).settle(tunable, 1)).toMatchObject({ chosen: 'faster', why: 'measured' });
});

test('a budget of nothing measures nothing', async () => {
  const made: string[] = [];
  const none = await tunerOf({ budgetMs: 0 });
  expect(await none.settle(await tunableOf([RULE, FASTER], made), 1)).toMatchObject({ chosen: 'rule', why: 'rule' });
  expect(made).toEqual([]);
});

test('a start that is cancelled ends the tuning at the next candidate', async () => {
  const made: string[] = [];
  const stop = (): void => {
    if (made.length > 0) throw new Error('stopped');
  };
  const stopped = await tunerOf({ onProgress: stop });
  await expect(stopped.settle(await tunableOf([RULE, FASTER], made), 1)).rejects.toThrow('stopped');
  expect(made).toEqual(['rule']);
});

test('what can not be stored is told, and taken all the same', async () => {
  path = join(folder, '\0');
  const told: string[] = [];
  const verdict = await (await tunerOf({ onNotice: (words) => told.push(words) })).settle(
    await tunableOf([RULE, FASTER]),
    1,
  );
  expect(verdict.chosen).toBe('faster');
  expect(told).toEqual([expect.stringContaining('could not be stored')]);
});
