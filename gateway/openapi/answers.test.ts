// What the document says of answers is what the app answers: every route is asked, and its answer has exactly the fields that its row
// names. A shape drops what it doesn't know, so an answer with one field more is no longer equal to what was parsed.
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { z } from 'zod';
import { ADMIN_KEY, GatewayRig } from '../../test/support/gatewayRig.ts';
import { errorsOf } from './document.ts';
import { errorAnswer } from './inferenceAnswers.ts';
import { OPERATIONS, type Operation } from './operations.ts';

let rig: GatewayRig;
beforeEach(async () => {
  rig = await GatewayRig.start();
});
afterEach(() => rig.stop());

function operation(id: string): Operation {
  const found = OPERATIONS.find((one) => one.id === id);
  if (!found) throw new Error(`no operation ${id}`);
  return found;
}

function exactly(schema: z.ZodType | undefined, value: unknown): void {
  if (!schema) throw new Error('the row names no answer');
  expect(schema.parse(value)).toEqual(value);
}

interface Call {
  key?: string;
  at?: Record<string, string>;
  query?: string;
  body?: unknown;
}

async function send({ method, path }: Operation, { key, at = {}, query = '', body }: Call): Promise<Response> {
  const filled = path.replaceAll(/:(\w+)(\{[^}]*\})?/g, (_, name: string) => at[name] ?? name);
  return rig.request(method, `${filled}${query && `?${query}`}`, { ...(key !== undefined && { key }), body });
}

/** Asks, and holds the answer against the row. */
async function ask<T = { id: string }>(id: string, call: Call = {}): Promise<T> {
  const row = operation(id);
  const response = await send(row, { ...(row.caller === 'admin' && { key: ADMIN_KEY }), ...call });
  const text = await response.text();
  expect([id, response.status, response.ok ? '' : text]).toEqual([id, 200, '']);
  exactly(row.answer, JSON.parse(text));
  asked.add(id);
  return JSON.parse(text);
}

const asked = new Set<string>();
const LIMITED = { limits: [{ metric: 'tokens', window: 'day', limit: 1000, models: ['tiny'] }] };

test('every route answers with exactly the fields that the document names', async () => {
  asked.clear();
  const { id: project } = await ask('createProject', { body: { name: 'research' } });
  const at = { project };
  await ask('updateProject', { at, body: { name: 'renamed' } });
  await ask('getProject', { at });
  const made = await ask<{ id: string; api_key: { id: string; value: string } }>('createServiceAccount', {
    ...{ at, body: { name: 'batch', expires_in_seconds: 9999, ...LIMITED } },
  });
  const key = made.api_key.value;
  const account = { ...at, account: made.id };
  const keyAt = { ...at, key: made.api_key.id };
  await ask('getServiceAccount', { at: account });
  await ask('listServiceAccounts', { at });
  await ask('putTokenQuotas', { at, body: [{ window: 'month', limit_tokens: 100_000, models: ['tiny'] }] });
  await ask('getTokenQuotas', { at });
  await ask('updateRateLimit', { at: { ...at, id: 'rl-*' }, body: { max_requests_per_1_minute: 100 } });
  await ask('listRateLimits', { at });
  await ask('putSpendLimit', { at, body: { threshold_amount: 100 } });
  await ask('getSpendLimit', { at });
  await ask('putServicePolicy', { at, body: { weight: 2, max_concurrent_requests: 4 } });
  await ask('getServicePolicy', { at });
  await ask('createPrice', { body: { model: 'tiny', input_nano_usd: 100, output_nano_usd: 200 } });
  await ask('listPrices', { query: 'model=tiny' });
  const prefix = await ask('createPublicPrefix', {
    body: { model: 'tiny', text: 'You are kind. '.repeat(16) },
  });
  await ask('listPublicPrefixes');
  await ask('deletePublicPrefix', { at: { id: prefix.id } });
  await ask('enrolPool', { body: { id: 'far', allowed_origins: ['https://far.example.com'] } });
  await ask('listPools');
  await ask('getPool', { at: { id: 'far' } });
  await ask('getPool', { at: { id: rig.pool.id } });
  await ask('removePool', { at: { id: 'far' } });
  const admin = await ask('createAdminKey', { body: { name: 'robot' } });
  await ask('listAdminKeys');
  await ask('getAdminKey', { at: { key: admin.id } });

  const messages = [{ role: 'user', content: 'hi' }];
  const sampling = { model: 'tiny', max_tokens: 3 };
  await ask('createChatCompletion', { key, body: { ...sampling, messages, n: 2, logprobs: true, top_logprobs: 2 } });
  await ask('createChatCompletion', { key, body: { ...sampling, messages } });
  await ask('createCompletion', { key, body: { ...sampling, prompt: ['ab', 'c'], echo: true, logprobs: 1 } });
  await ask('createCompletion', { key, body: { ...sampling, prompt: [1, 2] } });
  await ask('listModels', { key });
  await ask('getModel', { key, at: { id: 'tiny' } });
  await ask('getOwnKey', { key });

  await ask('listApiKeys', { at });
  await ask('getApiKey', { at: keyAt });
  await ask('updateApiKey', { at: keyAt, body: { allowed_models: ['tiny'] } });
  rig.db.exec('UPDATE key_hashes SET pepper_version = 0');
  const stragglers = await ask<{ data: object[] }>('listKeyStragglers', { at });
  expect(stragglers.data).toHaveLength(1);
  await ask('rotateApiKey', { at: keyAt, body: { grace_seconds: 60 } });
  for (const groups of ['', '&group_by=project_id,api_key_id,model']) {
    const use = await ask<{ data: { results: object[] }[] }>('getUsage', { query: `start_time=${today()}${groups}` });
    expect(use.data[0]?.results).toHaveLength(1);
  }
  for (const groups of ['', '&group_by=project_id,api_key_id,line_item'])
    await ask('getCosts', { query: `start_time=${today()}${groups}` });
  await ask('reconcile');
  await ask('deleteSpendLimit', { at });
  await ask('deleteApiKey', { at: keyAt });
  await ask('deleteServiceAccount', { at: account });
  await ask('deleteAdminKey', { at: { key: admin.id } });
  await ask('archiveProject', { at });
  await ask('listProjects', { query: 'include_archived=true' });
  const audited = await ask<{ data: object[] }>('listAuditLogs', { query: 'limit=100' });
  expect(audited.data.length).toBeGreaterThan(15);
  await ask('getHealth');
  await ask('getReadiness');
  expect(OPERATIONS.filter(({ answer, id }) => answer && !asked.has(id)).map(({ id }) => id)).toEqual([]);
});

const today = () => Math.floor(Date.now() / 86_400_000) * 86_400;

test.each([
  ['createChatCompletion', { messages: [{ role: 'user', content: 'hi' }], logprobs: true, top_logprobs: 2 }],
  ['createCompletion', { prompt: 'ab', echo: true, logprobs: 1 }],
])('each event of a stream of %s has the fields that its row names', async (id, body) => {
  const { key } = await rig.tenant();
  const row = operation(id);
  for (const include_usage of [true, false]) {
    const wanted = { model: 'tiny', max_tokens: 3, n: 2, stream: true, stream_options: { include_usage }, ...body };
    const response = await send(row, { key, body: wanted });
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    const events = (await response.text()).split('\n\n').filter((event) => event !== '');
    expect(events.pop()).toBe('data: [DONE]');
    for (const event of events) exactly(row.event, JSON.parse(event.slice('data: '.length)));
    expect(events.length).toBeGreaterThan(6);
  }
});

test('answers of text have the media types that the rows name', async () => {
  for (const row of OPERATIONS.filter(({ texts }) => texts)) {
    const response = await send(row, { key: ADMIN_KEY });
    expect(row.texts).toContain((response.headers.get('content-type') ?? '').split(';')[0]);
  }
});

test('every refusal has the envelope, and its status stands in the row', async () => {
  const { id: project, key } = await rig.tenant([{ window: 'day', limit_tokens: 1 }]);
  const body = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }] };
  const refused: [string, number, Call][] = [
    ['createChatCompletion', 401, { body }],
    ['createChatCompletion', 400, { key, body: { ...body, n: 0 } }],
    ['createChatCompletion', 404, { key, body: { ...body, model: 'absent' } }],
    ['createChatCompletion', 413, { key, body: 'x'.repeat(100_000) }],
    ['createCompletion', 400, { key, body: { model: 'tiny', prompt: 'x', max_tokens: 5, suffix: 'y' } }],
    ['getModel', 404, { key, at: { id: 'absent' } }],
    ['getProject', 403, { key, at: { project } }],
    ['getProject', 404, { key: ADMIN_KEY, at: { project: 'proj_absent' } }],
    ['getUsage', 400, { key: ADMIN_KEY, query: 'start_time=soon' }],
    ['getSpendLimit', 404, { key: ADMIN_KEY, at: { project } }],
  ];
  for (const [id, status, call] of refused) {
    const row = operation(id);
    const response = await send(row, call);
    expect([id, response.status]).toEqual([id, status]);
    expect(errorsOf(row)).toContain(status);
    exactly(errorAnswer, JSON.parse(await response.text()));
  }
});
