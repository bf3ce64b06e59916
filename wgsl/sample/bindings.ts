// What all sampling kernels share: one bind group, how a row of logits is read, and 64-bit sums of weights.
import { ROW_WORDS, type SampleShape, SCAN_LANES, scratchLayout } from './row.ts';
import { WEIGHT_WGSL } from './weight.ts';

/** In order of binding. `wgpu` type of each buffer, for an explicit bind group layout. */
export const SAMPLE_BINDINGS = [
  'read-only-storage', // rows
  'storage', // logits
  'read-only-storage', // adjustments
  'storage', // slots
  'storage', // scratch
  'storage', // results
  'uniform', // constants
] as const satisfies GPUBufferBindingType[];

export function sampleBindings(shape: SampleShape): string {
  const { vocabSize, stride } = shape;
  const at = scratchLayout(shape);
  return `
struct Row {  // wgsl/sample/row.ts
  flags: u32, topK: u32, topP: u32, limit: u32,
  scale: f32, noiseHigh: u32, noiseLow: u32, given: u32,
  adjustAt: u32, adjustments: u32, keptAt: u32, above: f32,
  below: f32, frequency: f32, presence: f32, slot: u32,
  pending: u32, top: u32, heavy: u32, ${Array.from({ length: ROW_WORDS - 19 }, (_, i) => `pad${i}: u32`).join(', ')},
}
@group(0) @binding(0) var<storage, read> rows: array<Row>;                // [row]
@group(0) @binding(1) var<storage, read_write> logits: array<vec4u>;      // [row][stride / 4], bits of f32
@group(0) @binding(2) var<storage, read> adjustments: array<u32>;         // [.][3]: id, count, bias
@group(0) @binding(3) var<storage, read_write> slots: array<u32>;         // drawn ids
@group(0) @binding(4) var<storage, read_write> scratch: array<u32>;       // row.ts, scratchLayout
@group(0) @binding(5) var<storage, read_write> results: array<u32>;       // [row][RESULT_WORDS]
@group(0) @binding(6) var<uniform> constants: vec4u;                      // x: 0, unknown to the compiler

const STRIDE4 = ${stride / 4}u;
const CHUNKS = ${at.chunks}u;
const CHUNK_BEST = ${at.chunkBest}u;    // [row][chunk]: key, id
const TILE_BEST = ${at.tileBest}u;      // [row][chunk][lane]: key, id; used up by the search for alternatives
const TILE_KEYS = ${at.tileKeys}u;      // [row][chunk][lane]: the same keys, of the adjusted logits, for cuts
const CHUNK_SUMS = ${at.chunkSums}u;    // [row][chunk]: weight low, high, ties
const CUTS = ${at.cuts}u;               // [row]: border, ties that stay
const KEPT = ${at.kept}u;               // unadjusted logits
const SCAN_LANES = ${SCAN_LANES}u;
${WEIGHT_WGSL}
/** Four logits of a row, canonical; what is beyond the vocabulary is impossible. */
fn load(row: u32, at: u32) -> vec4u {
  let ids = vec4u(at * 4u) + vec4u(0u, 1u, 2u, 3u);
  return select(vec4u(IMPOSSIBLE), canonical(logits[row * STRIDE4 + at]), ids < vec4u(${vocabSize}u));
}

/** Key and id of the best of the chunks. */
fn bestOf(row: u32) -> vec2u {
  var best = vec2u(0u);
  for (var chunk = 0u; chunk < CHUNKS; chunk++) {
    let at = CHUNK_BEST + (row * CHUNKS + chunk) * 2u;
    if (scratch[at] > best.x) { best = vec2u(scratch[at], scratch[at + 1u]); }
  }
  return best;
}

/** 64-bit numbers: x low, y high. */
fn add64(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}
fn subtract64(a: vec2u, b: vec2u) -> vec2u { return vec2u(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x)); }
fn less64(a: vec2u, b: vec2u) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }
fn multiply(a: u32, b: u32) -> vec2u {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let cross = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let middle = (a & 0xffffu) * (b >> 16u) + (cross & 0xffffu);
  return vec2u((middle << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (cross >> 16u) + (middle >> 16u));
}
/** Upper half of the product with a fraction of 64 bits: below b. */
fn multiplyHigh64(fraction: vec2u, b: vec2u) -> vec2u {
  let low = multiply(fraction.x, b.x);
  let a = add64(multiply(fraction.y, b.x), vec2u(low.y, 0u));
  let c = add64(multiply(fraction.x, b.y), vec2u(a.x, 0u));
  return add64(multiply(fraction.y, b.y), add64(vec2u(a.y, 0u), vec2u(c.y, 0u)));
}
/** The greatest n ≤ most with n · unit ≤ value. */
fn times(value: vec2u, unit: u32, most: u32) -> u32 {
  var n = 0u;
  for (var bit = 1u << 31u; bit > 0u; bit >>= 1u) {
    let more = n | bit;
    if (more <= most && !less64(value, multiply(more, unit))) { n = more; }
  }
  return n;
}
`;
}
