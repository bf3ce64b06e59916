// The kernels that work token by token, each over data of the caller's, as the engine would dispatch it: embed, normalize, quantize, rope. For their
// tests, for the bench, and for what else needs quantised rows. What a kernel writes lies in buffers that it gives the words of before.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import type { Matrix } from '../../engine/llama/matrix.ts';
import { ProblemBuffers } from '../../engine/llama/problemBuffers.ts';
import { normalizeLabel } from '../../engine/llama/tuneNormalize.ts';
import type { KvShape } from '../../wgsl/attention/shape.ts';
import { EMBED_LANES, embedParams, embedShader } from '../../wgsl/embed/shader.ts';
import type { KvFormat } from '../../wgsl/kv/format.ts';
import { BLOCK } from '../../wgsl/matmul/layout.ts';
import type { Activations } from '../../wgsl/matmul/variant.ts';
import { normalizeParams, normalizeShader } from '../../wgsl/normalize/shader.ts';
import { QUANTIZE_LANES, type QuantizeVariant, quantizeParams, quantizeShader } from '../../wgsl/quantize/shader.ts';
import { placesOf } from '../../wgsl/rope/place.ts';
import { ROPE_LANES, ropeShader, ropeUnits } from '../../wgsl/rope/shader.ts';
import { dispatchOf, download, type Encode, pipelinesOf, submit } from './gpu.ts';

export interface RowKernel<Name extends string> {
  encode: Encode;
  buffers: Record<Name, GPUBuffer>;
  destroy(): void;
}

type Words = Uint32Array<ArrayBuffer>;
type Floats = Float32Array<ArrayBuffer>;

/** Runs a kernel once and gives the words of its buffers. */
export async function runRows<Name extends string>(
  { device }: OpenedDevice,
  kernel: RowKernel<Name>,
): Promise<Record<Name, Words>> {
  submit(device, kernel.encode);
  const read: Partial<Record<Name, Words>> = {};
  for (const name of Object.keys(kernel.buffers) as Name[])
    read[name] = new Uint32Array(await download(device, kernel.buffers[name]));
  kernel.destroy();
  return read as Record<Name, Words>;
}

/** Buffers, and the tokens of the step as kernels take them. */
function buffersFor({ device }: OpenedDevice, tokens: number): { made: ProblemBuffers; counts: GPUBuffer } {
  const made = new ProblemBuffers(device, 'rows');
  return { made, counts: made.filled('counts', Uint32Array.of(tokens, 0, 0, 0)) };
}

export interface EmbedCase {
  /** Packed already; stays the caller's. */
  matrix: Pick<Matrix, 'layout' | 'parts'>;
  ids: Words;
  /** [tokens, cols] each. */
  hidden: Floats;
  delta: Floats;
}

export async function prepareEmbed(
  gpu: OpenedDevice,
  { matrix: { layout, parts }, ids, ...given }: EmbedCase,
): Promise<RowKernel<'hidden' | 'delta'>> {
  const { kind, blocks } = layout;
  const pipeline = await pipelinesOf(gpu.device).get(`embed ${kind}`, () => embedShader(kind));
  const { made, counts } = buffersFor(gpu, ids.length);
  const tokenIds = made.filled('ids', ids);
  const buffers = { hidden: made.filled('hidden', given.hidden), delta: made.filled('delta', given.delta) };
  const dispatches = parts.map(({ buffer, firstTile, tiles }) => {
    const params = made.filled('params', embedParams(layout, firstTile, tiles));
    const bound = [buffer, tokenIds, buffers.hidden, buffers.delta, params, counts];
    return dispatchOf(gpu.device, pipeline, bound, Math.ceil((ids.length * blocks) / EMBED_LANES));
  });
  const encode: Encode = (pass) => {
    for (const dispatch of dispatches) dispatch(pass);
  };
  return { encode, buffers, destroy: () => made.destroy() };
}

export interface NormalizeCase {
  format: Activations;
  lanes: number;
  /** [tokens, width] each. */
  hidden: Floats;
  delta: Floats;
  /** [width]. */
  weight: Floats;
  epsilon: number;
  /** Token of each row to do. */
  rowToken: Words;
  activations: Words;
}

export async function prepareNormalize(
  gpu: OpenedDevice,
  { format, lanes, weight, epsilon, rowToken, ...given }: NormalizeCase,
): Promise<RowKernel<'hidden' | 'activations'>> {
  const label = normalizeLabel(format, lanes);
  const pipeline = await pipelinesOf(gpu.device).get(label, () => normalizeShader(format, lanes));
  const { made } = buffersFor(gpu, rowToken.length);
  const hidden = made.filled('hidden', given.hidden);
  const activations = made.filled('activations', given.activations);
  const bound = [
    ...[hidden, made.filled('delta', given.delta), made.filled('weight', weight), made.filled('rows', rowToken)],
    ...[activations, made.filled('params', normalizeParams(weight.length, epsilon))],
  ];
  const encode = dispatchOf(gpu.device, pipeline, bound, rowToken.length);
  return { encode, buffers: { hidden, activations }, destroy: () => made.destroy() };
}

export interface QuantizeCase extends QuantizeVariant {
  /** Of a token's result. */
  width: number;
  tokens: number;
  /** [tokens, width], or twice as wide where gated. */
  rows: Floats;
  activations: Words;
}

export async function prepareQuantize(
  gpu: OpenedDevice,
  { source, format, width, tokens, rows, ...given }: QuantizeCase,
): Promise<RowKernel<'activations'>> {
  const pipeline = await pipelinesOf(gpu.device).get(`quantize ${source} ${format}`, () =>
    quantizeShader({ source, format }),
  );
  const { made, counts } = buffersFor(gpu, tokens);
  const activations = made.filled('activations', given.activations);
  const params = made.filled('params', quantizeParams({ source }, width));
  const bound = [made.filled('source', rows), activations, params, counts];
  const groups = Math.ceil((tokens * (width / BLOCK)) / QUANTIZE_LANES);
  const encode = dispatchOf(gpu.device, pipeline, bound, groups);
  return { encode, buffers: { activations }, destroy: () => made.destroy() };
}

export interface RopeCase {
  shape: KvShape;
  format: KvFormat;
  /** [tokens, heads + 2 · kvHeads, headDim]. */
  qkv: Floats;
  /** [tokens]: block · 16 + slot. */
  slots: Words;
  /** [tokens, ropeDim]: cos and sin of each pair. */
  rotation: Floats;
  arena: Words;
}

export async function prepareRope(
  gpu: OpenedDevice,
  { shape, format, slots, rotation, ...given }: RopeCase,
): Promise<RowKernel<'qkv' | 'arena'>> {
  const label = `rope ${format} ${JSON.stringify(shape)}`;
  const pipeline = await pipelinesOf(gpu.device).get(label, () => ropeShader(shape, format));
  const { made, counts } = buffersFor(gpu, slots.length);
  const buffers = { qkv: made.filled('qkv', given.qkv), arena: made.filled('arena', given.arena) };
  const bound = [buffers.qkv, buffers.arena, made.filled('places', placesOf(rotation, slots, shape.ropeDim)), counts];
  const groups = Math.ceil((slots.length * ropeUnits(shape, format)) / ROPE_LANES);
  return { encode: dispatchOf(gpu.device, pipeline, bound, groups), buffers, destroy: () => made.destroy() };
}
