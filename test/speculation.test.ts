// Drafts as clients and operators see them: through the gateway, a pool process and the simulated runner. Answers are those of a model that
// does not speculate; what was guessed is told in usage, whole and streamed, in the status and in metrics, and billed nowhere.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { statusDetail } from '../pool/wire/status.ts';
import { PagedSystem } from './support/pagedSystem.ts';
import { askPool } from './support/signedPoolClient.ts';

/** The runner goes on in steps of 7; each of its own steps takes long enough to be measured on a busy machine. */
const FILE = { follows: 100, stepMs: 10 };
/** Most of it comes twice, so that the rest is guessed. */
const RUN = Array.from({ length: 35 }, (_, i) => 10 + 7 * i);
const PROMPT = [...RUN, ...RUN.slice(0, 16)];
const ANSWER = 20;

let system: PagedSystem;
let key: string;
/** Output tokens that clients have been told of. */
let told = 0;
beforeAll(async () => {
  system = await PagedSystem.start({
    model: FILE,
    models: [
      { id: 'drafts', kvBlocks: 64 },
      { id: 'plain', kvBlocks: 64, speculation: { kind: 'off' } },
    ],
  });
  ({ key } = await system.tenant());
});
afterAll(() => system.close());

interface Body {
  choices: { text?: string; message?: { content: string } }[];
  usage: {
    completion_tokens: number;
    total_tokens: number;
    completion_tokens_details: { accepted_prediction_tokens: number; rejected_prediction_tokens: number };
  };
}

const COMPLETION = { prompt: PROMPT, max_tokens: ANSWER, temperature: 0 };
/** The answer begins behind `assistant` and a new line, as this text does. */
const TEXT = `assistant\n${String.fromCharCode(...RUN.slice(1, 17))}`;
const CHAT = { messages: [{ role: 'user', content: TEXT }], max_tokens: ANSWER, temperature: 0 };

describe.each([
  ['completions', '/completions', COMPLETION],
  ['chat', '/chat/completions', CHAT],
])('%s', (_, path, body) => {
  const ask = async (over: object): Promise<Body> => {
    const answer = await system.ask<Body>(key, path, { ...body, ...over });
    told += answer.usage.completion_tokens;
    return answer;
  };

  it('answer the same with drafts, and tell them apart from what is billed', async () => {
    const drafts = await ask({ model: 'drafts' });
    const plain = await ask({ model: 'plain' });
    expect(drafts.choices).toEqual(plain.choices);
    const { completion_tokens_details: details, ...billed } = drafts.usage;
    const { completion_tokens_details: none, ...same } = plain.usage;
    expect(none).toEqual({ accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 });
    expect(billed).toMatchObject({ completion_tokens: same.completion_tokens, total_tokens: same.total_tokens });
    expect(details.accepted_prediction_tokens).toBeGreaterThan(0);
    expect(details.accepted_prediction_tokens).toBeLessThan(body.max_tokens);
  });

  it('tell the same in a stream', async () => {
    const events = await system.stream<Partial<Body>>(key, path, {
      ...{ ...body, model: 'drafts', stream: true, stream_options: { include_usage: true } },
    });
    const usage = events.at(-1)?.usage;
    expect(usage).toMatchObject({ completion_tokens: body.max_tokens });
    told += body.max_tokens;
    expect(usage?.completion_tokens_details.accepted_prediction_tokens).toBeGreaterThan(0);
  });
});

describe('an operator', () => {
  it('sees drafts by model, in status and metrics', async () => {
    told += (await system.ask<Body>(key, '/completions', { ...COMPLETION, model: 'drafts' })).usage.completion_tokens;
    const { json } = await askPool(system.pool.address, { method: 'GET', path: '/pool/status?detail=true' });
    const { engines } = statusDetail.parse((json as { detail: unknown }).detail);
    const [drafts, plain] = ['drafts', 'plain'].map((id) => engines.find(({ models }) => models.includes(id))!);
    expect(drafts!.accepted_draft_tokens).toBeGreaterThan(0);
    expect(drafts!.drafted_tokens).toBeGreaterThanOrEqual(drafts!.accepted_draft_tokens);
    expect(plain).toMatchObject({ drafted_tokens: 0, accepted_draft_tokens: 0 });
    const text = await (await fetch(`${system.pool.address.url}/metrics`)).text();
    expect(text).toContain(`hearth_pool_accepted_draft_tokens_total{model="drafts"} ${drafts!.accepted_draft_tokens}`);
    expect(text).toContain('hearth_pool_drafted_tokens_total{model="plain"} 0');
  });

  it('bills what was released, and nothing that was guessed', async () => {
    interface Page {
      data: { results: { output_tokens: number }[] }[];
    }
    const { data } = await system.admin<Page>(
      'GET',
      `/usage/completions?start_time=${Math.floor(Date.now() / 1000) - 600}`,
    );
    const billed = data.flatMap(({ results }) => results).reduce((sum, one) => sum + one.output_tokens, 0);
    expect(told).toBeGreaterThan(ANSWER);
    expect(billed).toBe(told);
  });
});
