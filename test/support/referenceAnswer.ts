// What a row of logits is answered by the CPU definition of sampling.
import type { RowAnswer, RowWish } from '../../engine/modelRunner.ts';
import { RowWriter, readAnswer } from '../../engine/rowWords.ts';
import { sampleReference } from '../../wgsl/sample/reference.ts';
import { ADJUSTMENT_WORDS, ROW_WORDS } from '../../wgsl/sample/row.ts';

/** `slots`: drawn ids; the wish's slot takes another. */
export function referenceAnswer(logits: Float32Array, wish: RowWish, slots: Uint32Array): RowAnswer {
  const adjustments = wish.kind === 'draw' ? (wish.adjustments?.sizeWith(wish.ahead ?? new Int32Array(0)) ?? 0) : 0;
  const u32 = new Uint32Array(ROW_WORDS + adjustments * ADJUSTMENT_WORDS);
  const words = { u32, f32: new Float32Array(u32.buffer) };
  new RowWriter(logits.length, { words, rowsAt: 0, adjustBase: 0, adjustAt: ROW_WORDS }).write(wish);
  return readAnswer(sampleReference(logits, words, 0, words, slots), wish, logits.length);
}
