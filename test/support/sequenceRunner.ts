// Teacher-forced sequences over a real ModelRunner: which tokens go in which step is the test's choice, the logits must not care.
import type { ModelRunner, StepChunk } from '../../engine/modelRunner.ts';

/** One chunk of a sequence whose logits are wanted at every position. */
export function chunkOf(tokens: readonly number[], start: number, count: number, blockTable: Int32Array): StepChunk {
  return {
    tokens: Int32Array.from(tokens.slice(start, start + count)),
    start,
    blockTable,
    logitsFor: Array.from({ length: count }, (_, i) => i),
  };
}

/** Logits of every position, [tokens, vocab], computed in chunks of the given sizes (the last repeats). */
export async function logitsOf(
  runner: ModelRunner,
  tokens: readonly number[],
  blockTable: Int32Array,
  chunks: readonly number[],
): Promise<Float32Array> {
  const out = new Float32Array(tokens.length * runner.vocabSize);
  let start = 0;
  for (let step = 0; start < tokens.length; step++) {
    const count = Math.min(chunks[Math.min(step, chunks.length - 1)] as number, tokens.length - start);
    const { logits } = await runner.step([chunkOf(tokens, start, count, blockTable)]);
    out.set(logits, start * runner.vocabSize);
    start += count;
  }
  return out;
}
