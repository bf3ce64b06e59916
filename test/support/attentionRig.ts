// Runs one attention variant on the GPU over sequences whose keys and values lie scattered in an arena; everything else there is NaN,
// and must not be seen.
import { mergeShader, mergeWorkgroups, partialElements } from '../../wgsl/attention/merge.ts';
import {
  type AttentionVariant,
  attentionLabel,
  attentionShader,
  attentionWorkgroups,
} from '../../wgsl/attention/shader.ts';
import { CONTEXT_SPLIT, type KvShape } from '../../wgsl/attention/shape.ts';
import { BLOCK_SLOTS, type KvFormat, kvBlockBytes } from '../../wgsl/kv/format.ts';
import { storeRow } from '../../wgsl/kv/reference.ts';
import { dispatchOnce, download, pipelinesOf, testDevice, upload } from './gpu.ts';
import { randomOf } from './random.ts';

/** A sequence: how many positions it has, and of which of them (the last ones) the queries are asked. */
export interface Asked {
  positions: number;
  rows: number;
}

export interface AttentionScene {
  shape: KvShape;
  format: KvFormat;
  asked: readonly Asked[];
  arena: Uint32Array;
  qkv: Float32Array;
  tables: number[];
  /** Per sequence: where its block table begins, and its keys and values as they can be read back, [positions, kvHeads, headDim]. */
  tableAt: number[];
  k: Float32Array[];
  v: Float32Array[];
}

const NAN_PAIR = 0x7e007e00;

export function attentionScene(
  shape: KvShape,
  format: KvFormat,
  asked: readonly Asked[],
  seed: number,
): AttentionScene {
  const { heads, kvHeads, headDim } = shape;
  const random = randomOf(seed);
  const blocks = asked.reduce((sum, { positions }) => sum + Math.ceil(positions / BLOCK_SLOTS), 0);
  const arena = new Uint32Array(((blocks + 1) * kvBlockBytes(format, kvHeads, headDim)) / 4).fill(NAN_PAIR);
  const view = new DataView(arena.buffer);
  const width = (heads + 2 * kvHeads) * headDim;
  const tokens = asked.reduce((sum, { rows }) => sum + rows, 0);
  const qkv = Float32Array.from({ length: tokens * width }, () => (random() - 0.5) * 0.5);
  const scene: AttentionScene = { shape, format, asked, arena, qkv, tables: [], tableAt: [], k: [], v: [] };
  const step = [7, 11, 13, 17].find((prime) => blocks % prime !== 0) as number;
  for (const { positions } of asked) {
    scene.tableAt.push(scene.tables.length);
    for (let b = 0; b < Math.ceil(positions / BLOCK_SLOTS); b++)
      scene.tables.push((scene.tables.length * step) % blocks);
    const both = [0, 1].map((which) => {
      const stored = new Float32Array(positions * kvHeads * headDim);
      for (let p = 0; p < positions; p++)
        for (let head = 0; head < kvHeads; head++) {
          const block = scene.tables[(scene.tableAt.at(-1) as number) + Math.floor(p / BLOCK_SLOTS)] as number;
          const row = Float32Array.from({ length: headDim }, () => random() * 4 - 2);
          const plane = (block * 2 + which) * kvHeads + head;
          stored.set(storeRow(view, format, plane, p % BLOCK_SLOTS, row), (p * kvHeads + head) * headDim);
        }
      return stored;
    });
    scene.k.push(both[0] as Float32Array);
    scene.v.push(both[1] as Float32Array);
  }
  return scene;
}

/** The work items of all rows asked for, in chunks of at most `rows`, the first chunk of a sequence shortened to `first`. */
export function itemsOf({ asked, tableAt }: AttentionScene, rows: number, first = rows): number[] {
  const items: number[] = [];
  let token = 0;
  for (const [i, sequence] of asked.entries())
    for (let done = 0; done < sequence.rows; ) {
      const count = Math.min(done ? rows : first, sequence.rows - done);
      items.push(token, count, tableAt[i] as number, sequence.positions - sequence.rows + done);
      token += count;
      done += count;
    }
  return items;
}

/** out [rows asked for, heads, headDim]. */
export async function runAttention(
  scene: AttentionScene,
  variant: AttentionVariant,
  items: readonly number[],
): Promise<Float32Array> {
  const { device } = await testDevice();
  const pipelines = pipelinesOf(device);
  const { shape } = scene;
  const pipeline = await pipelines.get(`${attentionLabel(variant)} ${JSON.stringify(shape)}`, () =>
    attentionShader(shape, variant),
  );
  const { STORAGE, COPY_SRC } = GPUBufferUsage;
  const width = shape.heads * shape.headDim;
  const tokens = scene.asked.reduce((sum, { rows }) => sum + rows, 0);
  const u32 = (values: readonly number[]): GPUBuffer => upload(device, Uint32Array.from(values), STORAGE);
  const out = device.createBuffer({ size: tokens * width * 4, usage: STORAGE | COPY_SRC });
  const list = u32(items);
  const count = items.length / 4;
  const buffers = [upload(device, scene.qkv, STORAGE), upload(device, scene.arena, STORAGE), list, u32(scene.tables)];
  const groups = attentionWorkgroups(shape, variant);
  if (variant.splits === 'within') dispatchOnce(device, pipeline, [...buffers, out], groups, count);
  else {
    const splits = Math.ceil(Math.max(...scene.asked.map(({ positions }) => positions)) / CONTEXT_SPLIT);
    const size = count * variant.rows * shape.heads * splits * partialElements(shape) * 16;
    const partials = upload(device, new Uint32Array(size / 4).fill(NAN_PAIR), STORAGE);
    dispatchOnce(device, pipeline, [...buffers, partials], groups, count, splits);
    const merge = await pipelines.get(`merge ${variant.rows} ${JSON.stringify(shape)}`, () =>
      mergeShader(shape, variant.rows),
    );
    const counts = upload(device, Uint32Array.of(0, 0, 0, splits), GPUBufferUsage.UNIFORM);
    dispatchOnce(device, merge, [partials, list, counts, out], mergeWorkgroups(shape), count * variant.rows);
    buffers.push(partials, counts);
  }
  const result = new Float32Array(await download(device, out));
  for (const buffer of [...buffers, out]) buffer.destroy();
  return result;
}
