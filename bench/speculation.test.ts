// The bench of speculation at its smallest: so that it can't rot. That both decode the same tokens it checks itself.
import { expect, test } from 'vitest';
import { measureSpeculation } from './speculation.ts';

test('decodes with and without drafts in turn, and tells how many were drawn', async () => {
  const size = { generate: 24, rounds: 1, maxDraftTokens: 4 };
  const { rows } = await measureSpeculation({ ...size, prompt: 'edit code' });
  expect(rows.map(({ name, unit, tokens }) => [name, unit, tokens])).toEqual([
    ['decode', 'tok/s', 24],
    ['decode', 'tok/s', 24],
    ['decode_gain', '×', 24],
    ['decode_gain', '×', 24],
    ['steps', 'steps', 24],
    ['drafted', 'tokens', 24],
    ['accepted', 'tokens', 24],
  ]);
  for (const { value } of rows.slice(0, 5)) expect(value).toBeGreaterThan(0);
});

test('a prompt that it does not have is refused with those that it has', async () => {
  const size = { generate: 1, rounds: 1, maxDraftTokens: 1 };
  await expect(measureSpeculation({ ...size, prompt: 'poem' })).rejects.toThrow('edit code, nothing repeats');
});
