// Whatever a server says, a chunk is read or the server is broken: nothing else comes of it, and what is passed on is what the wire knows.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { poolEvent } from '../wire/events.ts';
import { readChunk } from './chunk.ts';
import { UpstreamFailed } from './connection.ts';
import { MAKES, type MakeName } from './makes/makes.ts';
import { Tally } from './tally.ts';

const NAMES = Object.keys(MAKES) as MakeName[];
const WORDS = [
  'choices',
  'index',
  'delta',
  'content',
  'text',
  'logprobs',
  'tokens',
  'token_logprobs',
  'top_logprobs',
  'finish_reason',
]
  .concat([
    'usage',
    'prompt_tokens',
    'completion_tokens',
    'prompt_tokens_details',
    'cached_tokens',
    'token_ids',
    'gen_tokens',
  ])
  .concat(['timings', 'prompt_n', 'cache_n', 'predicted_n', 'error', 'object', 'id', 'token', 'bytes', 'logprob']);

const { odd } = fc.letrec<{ odd: unknown }>((tie) => ({
  odd: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    fc.oneof(
      fc.nat(3),
      fc.double(),
      fc.string({ maxLength: 3 }),
      fc.constantFrom(null, true, 'stop', 'length', -1, 1e300, '\uFFFD'),
    ),
    fc.array(tie('odd'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...WORDS), tie('odd'), { maxKeys: 6 }),
  ),
}));
const text = fc.oneof({ weight: 5, arbitrary: fc.string({ maxLength: 3 }) }, odd);
const finish = fc.oneof({ weight: 5, arbitrary: fc.constantFrom(null, 'stop', 'eos_token') }, odd);
/** Mostly of the right shape: what is odd sits deep. */
const near = fc.record(
  {
    choices: fc.array(
      fc.record(
        {
          index: fc.nat(2),
          delta: fc.record({ content: text, gen_tokens: odd }),
          text,
          logprobs: odd,
          finish_reason: finish,
          token_ids: odd,
        },
        { requiredKeys: ['index'] },
      ),
      { maxLength: 2 },
    ),
    usage: odd,
    timings: odd,
  },
  { requiredKeys: [] },
);

it('any JSON, of any make', () => {
  let read = 0;
  fc.assert(
    fc.property(
      fc.oneof(near, odd),
      fc.constantFrom(...NAMES),
      fc.constantFrom('chat' as const, 'completion' as const),
      (value, make, kind) => {
        const tally = new Tally({ prompts: 1, choices: 2, maxTokens: 9, holdTokens: 50 });
        try {
          const chunk = readChunk(MAKES[make], kind, JSON.stringify(value) ?? 'undefined', 2);
          if (chunk.error !== null) return;
          for (const { count, finish: ended, logprobs, ...said } of tally.accept(chunk)) {
            const finished = ended && { finish_reason: ended };
            const event = {
              type: 'delta',
              ...said,
              count,
              ...(logprobs && { logprobs }),
              ...finished,
              usage: tally.usage,
            };
            expect(poolEvent.safeParse(JSON.parse(JSON.stringify(event))).success).toBe(true);
            read += 1;
          }
        } catch (error) {
          if (!(error instanceof UpstreamFailed)) throw error;
        }
      },
    ),
    { numRuns: 5000 },
  );
  expect(read).toBeGreaterThan(100);
});
