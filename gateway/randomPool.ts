// Random bytes for the many small draws of every request (ids, nonces, seeds): taken from the system a block at a time, since one call of it
// costs the same for 4 bytes as for 4096. Each byte is given out once and overwritten.
import { randomFillSync } from 'node:crypto';
import type { RandomBytes } from './clock.ts';

const BLOCK_BYTES = 4096;

export function randomPool(): RandomBytes {
  const block = new Uint8Array(BLOCK_BYTES);
  let at = BLOCK_BYTES;
  return (count) => {
    if (count > BLOCK_BYTES) return randomFillSync(new Uint8Array(count));
    if (at + count > BLOCK_BYTES) {
      randomFillSync(block);
      at = 0;
    }
    const drawn = block.slice(at, at + count);
    block.fill(0, at, at + count);
    at += count;
    return drawn;
  };
}
