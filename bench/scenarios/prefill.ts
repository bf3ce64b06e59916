// A prompt by itself, beside llama.cpp.
import { type Bench, comparison, inTurn, mostRoundsOf } from '../bench.ts';
import type { Row } from '../report.ts';

export async function prefill(bench: Bench): Promise<Row[]> {
  const tokens = bench.quick ? 20 : 512;
  const contenders = [bench.hearth, bench.vulkan, bench.cpu].filter((each) => each !== null);
  const figures = await inTurn(
    bench,
    contenders.map((each) => ({
      name: each.name,
      measure: () => each.ask({ kind: 'prefill', tokens }),
      mostRounds: mostRoundsOf(bench, each),
    })),
  );
  const named = (key: string) => figures.map((each, i) => ({ name: contenders[i]!.name, value: each[key]! }));
  const [own, ...others] = named('tokensPerSecond');
  return [
    ...comparison('prefill', 'tok/s', own!.value, others, { 'llama.cpp vulkan': 80, 'llama.cpp cpu': 0.4 }),
    ...named('firstTokenMs').map(({ name, value }) => ({ name: 'first token', value, unit: 'ms', engine: name })),
  ].map((row) => ({ ...row, tokens }));
}
