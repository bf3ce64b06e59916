// Rotation and the KV write where q, k and v are made: a lane of the matrix kernel has a chunk of 8 dims of a head, all that rotation and an
// unscaled KV format need. The bits are those of shader.ts.
import type { KvShape } from '../attention/shape.ts';
import { BLOCK_SLOTS, CHUNK, type KvFormat, kvLayout } from '../kv/format.ts';
import { EPILOGUE_BINDING, type Epilogue } from '../matmul/epilogue.ts';
import { NO_SLOT, placeFunctions } from './place.ts';
import { storeChunk } from './shader.ts';

/** Formats whose rows need no scale, and so no lane the others. */
export const ropeFuses = (format: KvFormat): boolean => kvLayout(format, CHUNK).most === 0;

/** out: [token][heads + 2 · kvHeads][headDim / 4], of which q alone is written; bindings: arena, places. */
export function ropeEpilogue(shape: KvShape, format: KvFormat): Epilogue {
  const { heads, kvHeads, headDim, ropeDim } = shape;
  const kv = kvLayout(format, headDim);
  const dims = [heads, kvHeads, headDim, ropeDim].join('-');
  return {
    label: `rope ${format} ${dims}`,
    bindings: [
      { type: 'storage', grouped: false },
      { type: 'read-only-storage', grouped: true },
    ],
    ...{ exchanges: false, outType: 'vec4f' },
    declarations: () => `
@group(0) @binding(${EPILOGUE_BINDING}) var<storage, read_write> arena: array<${kv.type}>;
@group(0) @binding(${EPILOGUE_BINDING + 1}) var<storage, read> places: array<vec4u>;   // [token of the group], place.ts
${placeFunctions(ropeDim)}
fn takeRows(local: u32, live: bool, token: u32, row: u32, first: vec4f, second: vec4f) {
  if (!live) { return; }
  let head = row / ${headDim}u;
  let part = row % ${headDim}u / ${CHUNK}u;
  var c = array<vec4f, 2>(first, second);
  if (head < ${heads + kvHeads}u && part < ${ropeDim / CHUNK}u) {
    c[0] = rotate(first, rotation(token, part, 0u));
    c[1] = rotate(second, rotation(token, part, 1u));
  }
  if (head < ${heads}u) {
    let at = (token * p.outStride + row) / 4u;
    out[at] = c[0] * ${1 / Math.sqrt(headDim)};
    out[at + 1u] = c[1] * ${1 / Math.sqrt(headDim)};
    return;
  }
  let slot = slotOf(token);
  if (slot == ${NO_SLOT}u) { return; }
  let plane = ((slot / ${BLOCK_SLOTS}u) * ${2 * kvHeads}u + head - ${heads}u) * ${kv.planeElements}u;
  ${storeChunk(kv, 'c[0]', 'c[1]')}
}`,
  };
}
