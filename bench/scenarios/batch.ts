// Many streams in one step against one alone.
import { type Bench, generatedBy, inTurn, ratio } from '../bench.ts';
import type { Row } from '../report.ts';

export async function batch(bench: Bench): Promise<Row[]> {
  const context = bench.quick ? 20 : 256;
  const many = bench.quick ? 3 : 16;
  const generate = generatedBy(bench, bench.hearth);
  const task = { kind: 'decode' as const, context, generate };
  const [one, all] = await inTurn(
    bench,
    [1, many].map((streams) => ({
      name: `${streams} streams`,
      measure: () => bench.hearth.ask({ ...task, streams }),
    })),
  );
  const rows: Row[] = [
    { name: `decode, ${many} streams`, value: all!.tokensPerSecond!, unit: 'tok/s', engine: 'hearth' },
    ratio(`decode, ${many} streams / 1 stream`, all!.tokensPerSecond! / one!.tokensPerSecond!, 2.2),
  ];
  return rows.map((row) => ({ ...row, context, streams: many }));
}
