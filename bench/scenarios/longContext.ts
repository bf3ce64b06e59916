// What a long context costs a decode. llama.cpp's code for the processor is measured on it, too; its Vulkan backend would take minutes to read it on a
// software adapter.
import { type Bench, generatedBy, inTurn, ratio } from '../bench.ts';
import type { Row } from '../report.ts';

export async function longContext(bench: Bench): Promise<Row[]> {
  const [short, long] = bench.quick ? [16, 64] : [64, 4096];
  const vulkan = bench.adapter.hardware ? bench.vulkan : null;
  const contenders = [bench.hearth, vulkan, bench.cpu].filter((each) => each !== null);
  const turns = contenders.flatMap((each) =>
    [short, long].map((context) => ({
      name: `${each.name} after ${context}`,
      measure: () => each.ask({ kind: 'decode', context, generate: generatedBy(bench, each), streams: 1 }),
    })),
  );
  const figures = await inTurn(bench, turns);
  return contenders.flatMap(({ name }, i): Row[] => {
    const [near, far] = [2 * i, 2 * i + 1].map((index) => figures[index]!.tokensPerSecond!);
    const own = bench.hearth.name === name;
    return [
      { name: `decode after ${short}`, value: near!, unit: 'tok/s', engine: name },
      { name: `decode after ${long}`, value: far!, unit: 'tok/s', engine: name },
      ratio(`${name}: decode after ${long} / after ${short}`, far! / near!, own ? 0.6 : undefined),
    ];
  });
}
