// Decoding with drafts from the prompt against decoding without, where the answer repeats a text with changes.
import { type Bench, ratio } from '../bench.ts';
import type { Row } from '../report.ts';
import { measureSpeculation } from '../speculation.ts';

export async function speculation({ rounds, quick, say }: Bench): Promise<Row[]> {
  say('  with drafts and without, in turn');
  const options = { generate: quick ? 8 : 128, rounds: quick ? 1 : rounds, maxDraftTokens: 8, prompt: 'edit code' };
  const { rows } = await measureSpeculation(options);
  const gain = rows.find(({ name, clock }) => name === 'decode_gain' && clock === 'wall clock')!;
  return [
    ...rows
      .filter(({ name }) => name === 'decode')
      .map((row): Row => ({ ...row, name: `decode of an edit, speculation ${row.speculation}`, engine: 'hearth' })),
    ratio('decode of an edit, with drafts / without', gain.value, 1.5),
  ];
}
