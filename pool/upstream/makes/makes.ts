// The makes by the names that configurations have for them.
import type { Make } from '../make.ts';
import { llamaCpp } from './llamaCpp.ts';
import { lmdeploy } from './lmdeploy.ts';
import { openai } from './openai.ts';
import { sglang } from './sglang.ts';
import { tensorrtLlm } from './tensorrtLlm.ts';
import { tgi } from './tgi.ts';
import { vllm } from './vllm.ts';

export const MAKES = {
  vllm,
  sglang,
  'tensorrt-llm': tensorrtLlm,
  tgi,
  lmdeploy,
  'llama.cpp': llamaCpp,
  openai,
} as const satisfies Record<string, Make>;

export type MakeName = keyof typeof MAKES;
