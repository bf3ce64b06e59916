// Rotates q and k of each token by its position, scales q, and writes k and v into the paged KV arena. Pairs are adjacent dims (2i, 2i+1),
// as GGUF's llama layout permutes them (RoFormer, arXiv 2104.09864). cos and sin come from the host in f64 rounded to f32, so that no
// adapter's own sine is in the result. A lane has 8 dims of a head; where k and v are quantised, a whole row of theirs, for its scale; and
// where k is turned before, a whole row of q, too.
import type { KvShape } from '../attention/shape.ts';
import { BLOCK_SLOTS, CHUNK, type KvFormat, type KvLayout, kvLayout } from '../kv/format.ts';
import { hadamardShader, turnsKeys } from '../kv/hadamard.ts';
import { LEAST_PEAK } from '../quantize/storeBlock.ts';
import { placeFunctions } from './place.ts';

export const ROPE_LANES = 64;

/** Lanes per token. */
export function ropeUnits({ heads, kvHeads, headDim }: KvShape, format: KvFormat): number {
  const chunks = headDim / CHUNK;
  return heads * (turnsKeys(format) ? 1 : chunks) + 2 * kvHeads * (kvLayout(format, headDim).most ? 1 : chunks);
}

const JOIN = `
fn joined(v: vec4u, shifts: vec4u) -> u32 {
  let s = v << shifts;
  return s.x | s.y | s.z | s.w;
}`;

export function ropeShader(shape: KvShape, format: KvFormat): string {
  const { heads, kvHeads, headDim, ropeDim } = shape;
  const kv = kvLayout(format, headDim);
  const chunks = headDim / CHUNK;
  const units = ropeUnits(shape, format);
  const turns = turnsKeys(format);
  const queryUnits = turns ? heads : heads * chunks;
  return `
@group(0) @binding(0) var<storage, read_write> qkv: array<vec4f>;    // [token][heads + 2 * kvHeads][headDim / 4]
@group(0) @binding(1) var<storage, read_write> arena: array<${kv.most ? 'u32' : kv.type}>;   // words, where lanes write parts of an element
@group(0) @binding(2) var<storage, read> places: array<vec4u>;       // [token], place.ts
@group(0) @binding(3) var<uniform> counts: vec4u;                    // x: tokens of this step

${kv.most ? JOIN : ''}
struct Chunk { a: vec4f, b: vec4f }

${placeFunctions(ropeDim)}

// Where the chunk lies in qkv, by vec4f; and the chunk, rotated unless it is of v or past the rotated dims.
fn chunkAt(token: u32, head: u32, part: u32) -> u32 {
  return (token * ${heads + 2 * kvHeads}u + head) * ${headDim / 4}u + part * 2u;
}
fn rotated(token: u32, head: u32, part: u32) -> Chunk {
  let at = chunkAt(token, head, part);
  if (head >= ${heads + kvHeads}u || part >= ${ropeDim / CHUNK}u) { return Chunk(qkv[at], qkv[at + 1u]); }
  return Chunk(rotate(qkv[at], rotation(token, part, 0u)), rotate(qkv[at + 1u], rotation(token, part, 1u)));
}

${turns ? hadamardShader(headDim) : ''}

@compute @workgroup_size(${ROPE_LANES})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let token = id.x / ${units}u;
  if (token >= counts.x) { return; }
  let unit = id.x % ${units}u;
  if (unit < ${queryUnits}u) {
${turns ? turnedQuery(headDim) : query(headDim)}
    return;
  }
  let slot = slotOf(token);
  let head = ${heads}u + (unit - ${queryUnits}u)${kv.most ? '' : ` / ${chunks}u`};   // k heads, then v heads
  let plane = ((slot / ${BLOCK_SLOTS}u) * ${2 * kvHeads}u + head - ${heads}u) * ${kv.planeElements}u;
${kv.most ? quantisedRow(kv, chunks, turns ? heads + kvHeads : null) : plainChunk(kv, chunks)}
}
`;
}

function query(headDim: number): string {
  const chunks = headDim / CHUNK;
  return `
    let part = unit % ${chunks}u;
    let q = rotated(token, unit / ${chunks}u, part);
    let at = chunkAt(token, unit / ${chunks}u, part);
    qkv[at] = q.a * ${1 / Math.sqrt(headDim)};
    qkv[at + 1u] = q.b * ${1 / Math.sqrt(headDim)};`;
}

/** A whole row into `row`. */
function gatherRow(head: string, end: string): string {
  return `
    for (var part = 0u; part < ${end}; part++) {
      let c = rotated(token, ${head}, part);
      row[2u * part] = c.a;
      row[2u * part + 1u] = c.b;
    }`;
}

function turnedQuery(headDim: number): string {
  return `
    let zero = counts.x >> 31u;
    var row: array<vec4f, ${headDim / 4}>;
    ${gatherRow('unit', `${headDim / CHUNK}u + zero`)}
    turn(&row, zero);
    let first = chunkAt(token, unit, 0u);
    for (var i = 0u; i < ${headDim / 4}u + zero; i++) { qkv[first + i] = row[i] * ${1 / Math.sqrt(headDim)}; }`;
}

/** One chunk, as it is. */
function plainChunk(kv: KvLayout, chunks: number): string {
  return `
  let part = unit % ${chunks}u;
  let c = rotated(token, head, part);
  ${storeChunk(kv, 'c.a', 'c.b')}`;
}

/** WGSL statements; in scope: `plane` (element where the head's begins), `slot` and `part`. Attention multiplies masked values by zero: they have to be finite. */
export function storeChunk({ format, rowElements, perChunk }: KvLayout, first: string, second: string): string {
  const most = format === 'f16' ? '65504.0' : '3.0e38';
  const finite = (half: string): string => `clamp(${half}, vec4f(-${most}), vec4f(${most}))`;
  const store =
    format === 'f16'
      ? 'arena[at] = vec4u(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));'
      : 'arena[at] = a; arena[at + 1u] = b;';
  return `let a = ${finite(first)};
  let b = ${finite(second)};
  let at = plane + (slot % ${BLOCK_SLOTS}u) * ${rowElements}u + part * ${perChunk}u;
  ${store}`;
}

/** A whole row and its scale, from two passes over it. `turnedBelow`: heads before that one are turned; null: none. */
function quantisedRow({ bytes, most, rowElements }: KvLayout, chunks: number, turnedBelow: number | null): string {
  const turns = turnedBelow !== null;
  const chunk = turns ? 'Chunk(row[2u * part], row[2u * part + 1u])' : 'rotated(token, head, part)';
  const words = bytes / 4;
  const bits = (bytes * 8) / CHUNK;
  const mask = `vec4u(${2 ** bits - 1}u)`;
  const shifts = (first: number): string => `vec4u(${[0, 1, 2, 3].map((i) => `${first + i * bits}u`).join(', ')})`;
  const store =
    words === 2
      ? `arena[at] = joined(a & ${mask}, ${shifts(0)}); arena[at + 1u] = joined(b & ${mask}, ${shifts(0)});`
      : `arena[at] = joined(a & ${mask}, ${shifts(0)}) | joined(b & ${mask}, ${shifts(16)});`;
  const levels = (half: string): string =>
    `bitcast<vec4u>(vec4i(clamp(round(c.${half} * inverse), vec4f(-${most}.0), vec4f(${most}.0))))`;
  return `
  let end = ${chunks}u + (counts.x >> 31u);   // a software adapter's compiler unrolls what it can count
${turns ? `  var row: array<vec4f, ${2 * chunks}>;${gatherRow('head', 'end')}\n  if (head < ${turnedBelow}u) { turn(&row, counts.x >> 31u); }` : ''}
  var peak = vec4f(0.0);
  for (var part = 0u; part < end; part++) {
    let c = ${chunk};
    peak = max(peak, max(abs(c.a), abs(c.b)));
  }
  let largest = min(max(max(peak.x, peak.y), max(peak.z, peak.w)), 3.0e38);
  let inverse = select(0.0, ${most}.0 / largest, largest > ${LEAST_PEAK});
  for (var part = 0u; part < end; part++) {
    let c = ${chunk};
    let a = ${levels('a')};
    let b = ${levels('b')};
    let at = (plane + (slot % ${BLOCK_SLOTS}u) * ${rowElements}u + part) * ${words}u;
    ${store}
  }
  arena[(plane + ${BLOCK_SLOTS * rowElements}u) * ${words}u + slot % ${BLOCK_SLOTS}u] = bitcast<u32>(largest / ${most}.0);`;
}
