// A model as the HTTP thread knows it: its text side, and what the engine told of it once it was warm.
import type { ModelText } from '../engine/model/types.ts';
import type { WarmModel } from './engineMessages.ts';

export interface PoolModel {
  id: string;
  /** Models of one engine share it. */
  engine: string;
  /** Unix seconds. */
  created: number;
  text: ModelText;
  contextLength: number;
  vocabSize: number;
  fingerprint: string;
  adapter: string;
  /** Bytes of the longest token: n tokens can't hold more than n times as many bytes of text. */
  longestTokenBytes: number;
}

export function poolModel(text: ModelText, warm: WarmModel, created: number): PoolModel {
  let longestTokenBytes = 1;
  for (let id = 0; id < text.vocabSize; id++)
    longestTokenBytes = Math.max(longestTokenBytes, text.tokenBytes(id).length);
  const { id, engine, contextLength, vocabSize, fingerprint, adapter } = warm;
  return { id, engine, created, text, contextLength, vocabSize, fingerprint, adapter, longestTokenBytes };
}
