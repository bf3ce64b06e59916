// Tokens that only the device knows: where a step names a slot in place of an id, the id that was drawn into it is written in, before
// anything reads the step's tokens.

/** Lanes of a workgroup; one token each. */
export const RESOLVE_LANES = 64;

export const RESOLVE_SHADER = `
// What stands beyond the step's tokens is resolved, too, and read by nobody: the buffer that has the step's counts is written here.
@group(0) @binding(0) var<storage, read_write> tokenIds: array<u32>;  // [token]: id, or ~slot
@group(0) @binding(1) var<storage, read> slots: array<u32>;           // drawn ids

@compute @workgroup_size(${RESOLVE_LANES})
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= arrayLength(&tokenIds)) { return; }
  let token = tokenIds[id.x];
  if (token >= 0x80000000u) { tokenIds[id.x] = slots[~token]; }
}
`;
