// Numbers of the self-test's problems: the same in every process, about as large as activations are.

/** In [-1, 1), from a seed: mulberry32. */
export function seededNumbers(seed: number, count: number): Float32Array<ArrayBuffer> {
  let state = seed >>> 0;
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    numbers[i] = ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 31 - 1;
  }
  return numbers;
}
