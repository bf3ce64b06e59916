// One stream's decode after a context, beside llama.cpp; and what of a step the host takes: metadata, encoding, submitting.
import { type Bench, comparison, generatedBy, inTurn, mostRoundsOf } from '../bench.ts';
import type { Row } from '../report.ts';

export async function decode(bench: Bench): Promise<Row[]> {
  const context = bench.quick ? 20 : 256;
  const contenders = [bench.hearth, bench.vulkan, bench.cpu].filter((each) => each !== null);
  const [own, ...others] = await inTurn(
    bench,
    contenders.map((each) => ({
      name: each.name,
      measure: () => each.ask({ kind: 'decode', context, generate: generatedBy(bench, each), streams: 1 }),
      mostRounds: mostRoundsOf(bench, each),
    })),
  );
  const { tokensPerSecond = Number.NaN, deviceMs = Number.NaN, hostMs = Number.NaN } = own ?? {};
  const theirs = others.map((figures, i) => ({ name: contenders[i + 1]!.name, value: figures.tokensPerSecond! }));
  const aims = { 'llama.cpp vulkan': 22, 'llama.cpp cpu': 0.65 };
  return [
    ...comparison('decode', 'tok/s', tokensPerSecond, theirs, aims),
    { name: 'device time of a decode step', value: deviceMs, unit: 'ms', engine: 'hearth' },
    { name: 'host time of a decode step', value: hostMs, unit: 'ms', engine: 'hearth', most: 1 },
    { name: 'host share of a decode step', value: hostMs / (hostMs + deviceMs), unit: '', engine: 'hearth', most: 0.1 },
  ].map((row) => ({ ...row, context }));
}
