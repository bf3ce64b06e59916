// Generated malformed bodies against every route that takes one: each is refused with the envelope and names the very field that was
// made wrong; nothing is held, nothing is changed, no pool hears of it. A failure prints fast-check's seed.
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ADMIN_KEY, bodyOf, GatewayRig, type Tenant } from '../test/support/gatewayRig.ts';
import { hostileBodies } from '../test/support/hostileBodies.ts';
import { openApiDocument, type SchemaNode } from './openapi/document.ts';
import { errorAnswer } from './openapi/inferenceAnswers.ts';
import { OPERATIONS, type Operation } from './openapi/operations.ts';

const ROOM = 1_000_000_000;
const limits = [{ metric: 'tokens', window: 'day', limit: ROOM, models: ['tiny'], time_zone: 'Europe/Berlin' }];
const sampling = {
  ...{ model: 'tiny', max_tokens: 3, n: 2, temperature: 0.5, top_p: 0.9, top_k: 4, min_p: 0.1, seed: 7 },
  ...{ frequency_penalty: 0.5, presence_penalty: 0.5, repetition_penalty: 1.1, stop: ['END', 'STOP'], user: 'me' },
  ...{ logit_bias: { 5: 1 }, metadata: { a: 'b' }, stream: false, stream_options: { include_usage: true } },
  ...{ service_tier: 'auto', priority: 1, cache: true, cache_salt: 'salt', cache_retention: 50 },
};

/** A body that its route takes, with as many fields as can stand together. */
const SAMPLES: Readonly<Record<string, unknown>> = {
  createChatCompletion: {
    ...sampling,
    messages: [
      { role: 'system', content: 'Be kind.' },
      { role: 'user', content: [{ type: 'text', text: 'hi' }], name: 'me' },
    ],
    ...{ max_completion_tokens: 3, logprobs: true, top_logprobs: 2, store: false },
  },
  createCompletion: { ...sampling, prompt: ['ab', 'cd'], logprobs: 1, echo: true, best_of: 1 },
  createProject: { name: 'research' },
  updateProject: { name: 'renamed' },
  createServiceAccount: { name: 'batch', expires_in_seconds: 9999, allowed_models: ['tiny'], limits },
  updateApiKey: { name: 'other', expires_in_seconds: 9999, allowed_models: ['tiny', 'other'], limits },
  rotateApiKey: { grace_seconds: 9999 },
  putTokenQuotas: [{ window: 'month', limit_tokens: ROOM, models: ['tiny'], time_zone: 'Europe/Berlin' }],
  updateRateLimit: {
    ...{ max_requests_per_1_minute: ROOM, max_tokens_per_1_minute: ROOM },
    ...{ max_requests_per_1_day: ROOM, max_concurrent_requests: ROOM },
  },
  putSpendLimit: { threshold_amount: 1_000_000, currency: 'USD', interval: 'month', time_zone: 'Europe/Berlin' },
  putServicePolicy: {
    ...{ weight: 2, kv_floor_share: 0.1, cache_scope: 'project', max_concurrent_requests: 9, allowed_models: ['tiny'] },
  },
  createPrice: {
    ...{ model: 'tiny', input_nano_usd: 2, cached_input_nano_usd: 1, output_nano_usd: 3 },
    effective_from: Math.floor(Date.now() / 1000) + 9999,
  },
  createPublicPrefix: { model: 'tiny', text: 'You are kind. '.repeat(16) },
  enrolPool: { id: 'far', allowed_origins: ['https://far.example.com', 'http://127.0.0.1:9000'] },
  createAdminKey: { name: 'robot', expires_in_seconds: 9999 },
};
const WITH_BODY = OPERATIONS.filter(({ body }) => body);

let rig: GatewayRig;
let tenant: Tenant;
beforeAll(async () => {
  rig = await GatewayRig.start({ maxBodyBytes: 256 * 1024 });
  tenant = await rig.tenant();
});
afterAll(() => rig.stop());

const AT = () => ({ project: tenant.id, key: tenant.keyId, id: 'rl-tiny' }) as Record<string, string>;

function requestTo({ method, path, caller }: Operation, body: Uint8Array<ArrayBuffer>): Request {
  const filled = path.replaceAll(/:(\w+)(\{[^}]*\})?/g, (_, name: string) => AT()[name] ?? name);
  const authorization = `Bearer ${caller === 'admin' ? ADMIN_KEY : tenant.key}`;
  const headers = { 'content-type': 'application/json', authorization };
  return new Request(`http://gateway${filled}`, { method, headers, body });
}

function rowOf(operationId: string): Operation {
  const row = OPERATIONS.find(({ id }) => id === operationId);
  if (!row) throw new Error(`no operation ${operationId}`);
  return row;
}

/** As the document has it. */
function bodySchemaOf(operationId: string): SchemaNode {
  const { paths, components } = openApiDocument();
  const operation = Object.values(paths)
    .flatMap((methods) => Object.values(methods))
    .find((one) => one.operationId === operationId);
  const pointer = operation?.requestBody?.content['application/json']?.schema.$ref ?? '';
  const schema = components.schemas[pointer.slice(pointer.lastIndexOf('/') + 1)];
  if (!schema) throw new Error(`${operationId} has no body`);
  return schema;
}

/** Everything that the gateway keeps, but for its clocks: when a key was last used, which second a tenant has reached. */
function kept(): string {
  const tables = rig.db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").all();
  const digest = createHash('sha256');
  for (const { name } of tables)
    for (const row of rig.db.prepare(`SELECT * FROM "${String(name)}"`).all())
      digest.update(JSON.stringify({ name, ...row, last_used_ms: null, latest_second: null }));
  return digest.digest('hex');
}

test('every route with a body has a sample, and takes it', async () => {
  expect(Object.keys(SAMPLES).sort()).toEqual(WITH_BODY.map(({ id }) => id).sort());
  for (const row of WITH_BODY) {
    const response = await rig.send(requestTo(row, new TextEncoder().encode(JSON.stringify(SAMPLES[row.id]))));
    expect([row.id, response.status, response.ok ? '' : await response.text()]).toEqual([row.id, 200, '']);
  }
});

test('text of any characters, NUL and half a surrogate pair among them, is text', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 1, maxLength: 60, unit: 'binary' }), async (random) => {
      const odd = `\u0000${random}\ud800`;
      const bodies = {
        createChatCompletion: { model: 'tiny', max_tokens: 1, messages: [{ role: 'user', content: odd }], user: odd },
        createCompletion: { model: 'tiny', max_tokens: 1, prompt: odd, echo: true, cache_salt: odd },
        updateProject: { name: odd },
      };
      for (const [id, body] of Object.entries(bodies)) {
        const response = await rig.send(requestTo(rowOf(id), new TextEncoder().encode(JSON.stringify(body))));
        expect([id, response.status, response.ok ? '' : await response.text()]).toEqual([id, 200, '']);
      }
    }),
    { numRuns: 30 },
  );
  expect(await rig.ledger.holdCounts()).toEqual({ held: 0, unresolved: 0 });
});

const CASES = [
  ...WITH_BODY.map((row) => ({ row, sample: SAMPLES[row.id], numRuns: row.caller === 'project' ? 400 : 80 })),
  { row: rowOf('createCompletion'), sample: { model: 'tiny', prompt: [[1, 2], [3]] }, numRuns: 200 },
  { row: rowOf('createCompletion'), sample: { model: 'tiny', prompt: [1, 2], stop: 'END' }, numRuns: 200 },
];

test.each(CASES.map((one) => [one.row.id, one.numRuns, one] as const))(
  '%s refuses %i malformed bodies by the field that is wrong, and keeps nothing of them',
  async (id, numRuns, { row, sample }) => {
    const before = kept();
    const poolHeard = rig.pool.requests.length;
    await fc.assert(
      fc.asyncProperty(hostileBodies(sample, bodySchemaOf(id)), async ({ body, param }) => {
        const response = await rig.send(requestTo(row, body));
        const { error } = errorAnswer.parse(await bodyOf(response));
        expect([response.status, error.type, error.param]).toEqual([400, 'invalid_request_error', param]);
        expect(kept()).toBe(before);
      }),
      { numRuns },
    );
    expect(await rig.ledger.holdCounts()).toEqual({ held: 0, unresolved: 0 });
    expect(rig.pool.requests.length).toBe(poolHeard);
  },
);

test('a body past the bound is refused before it is read whole, told or not', async () => {
  const before = kept();
  for (const row of WITH_BODY) {
    const response = await rig.send(requestTo(row, new Uint8Array(300 * 1024).fill(0x20)));
    expect([response.status, (await bodyOf(response)).error.code]).toEqual([413, 'request_too_large']);
  }
  expect(kept()).toBe(before);
});
