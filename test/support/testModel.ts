// The real model of the tests: what HEARTH_TEST_MODEL names, else the default model from the cache, fetched once.
import { DEFAULT_MODEL } from '../../bin/defaultModel.ts';
import { resolveModel } from '../../engine/model/source.ts';

/** Path of the default model's file. Throws ModelSourceError when it can't be had. */
export async function testModelPath(): Promise<string> {
  const named = process.env.HEARTH_TEST_MODEL;
  if (named) return named;
  const { source, sha256 } = DEFAULT_MODEL;
  return (await resolveModel({ source, sha256 })).path;
}
