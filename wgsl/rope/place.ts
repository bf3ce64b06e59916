// Where a token stands, as the kernels that write k and v take it: the rotation of its position, and the slot of the arena that is its own.
//
//   place   ropeDim / 4 vec4 of cos and sin of two pairs, in f32 bits; then one vec4 whose first word is block · 16 + slot
//
// In one record, so that a group of 16 tokens begins at a multiple of 256 bytes, where a binding may.

/** In place of a slot: padding, whose k and v go nowhere. */
export const NO_SLOT = 0xffffffff;

/** vec4 per token. */
export const placeVec4 = (ropeDim: number): number => ropeDim / 4 + 1;

/** `rotation`: [tokens, ropeDim], cos and sin of each pair; `slots`: [tokens]. */
export function placesOf(rotation: Float32Array, slots: Uint32Array, ropeDim: number): Uint32Array<ArrayBuffer> {
  const stride = 4 * placeVec4(ropeDim);
  const words = new Uint32Array(slots.length * stride);
  const floats = new Float32Array(words.buffer);
  for (const [token, slot] of slots.entries()) {
    floats.set(rotation.subarray(token * ropeDim, (token + 1) * ropeDim), token * stride);
    words[token * stride + ropeDim] = slot;
  }
  return words;
}

/** WGSL, with `places: array<vec4u>` in scope: rotation of the pairs in a chunk of 8 dims, and slots. */
export const placeFunctions = (ropeDim: number): string => `
fn rotate(v: vec4f, r: vec4f) -> vec4f {
  return vec4f(v.x * r.x - v.y * r.y, v.x * r.y + v.y * r.x, v.z * r.z - v.w * r.w, v.z * r.w + v.w * r.z);
}
fn rotation(token: u32, part: u32, half: u32) -> vec4f {
  return bitcast<vec4f>(places[token * ${placeVec4(ropeDim)}u + part * 2u + half]);
}
fn slotOf(token: u32) -> u32 { return places[token * ${placeVec4(ropeDim)}u + ${ropeDim / 4}u].x; }`;
