// A sample of the generated malformed bodies against the gateway on Workers: the same refusals as on Node, and no limit is touched.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openApiDocument, type SchemaNode } from '../../gateway/openapi/document.ts';
import { EdgeRig } from '../support/edgeRig.ts';
import { ADMIN_KEY, bodyOf } from '../support/gatewayClient.ts';
import { hostileBodies } from '../support/hostileBodies.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';

const pool = new ScriptedPool();
let rig: EdgeRig;
beforeAll(async () => {
  await pool.start();
  // The longest list is 2,049 messages.
  rig = await EdgeRig.start(pool, { limits: { maxBodyBytes: 256 * 1024 } });
});
afterAll(async () => {
  await rig.stop();
  await pool.kill();
});

const quotas = [{ window: 'day', limit_tokens: 1000, models: ['tiny'], time_zone: 'Europe/Berlin' }];
const chat = {
  ...{ model: 'tiny', max_tokens: 3, stop: ['END'], metadata: { a: 'b' }, stream_options: { include_usage: true } },
  messages: [{ role: 'user', content: [{ type: 'text', text: 'hi' }] }],
};

test.each([
  ['POST', '/v1/chat/completions', 'CreateChatCompletionRequest', chat],
  ['PUT', '/v1/organization/projects/:project/token_quotas', 'PutTokenQuotasRequest', quotas],
])('%s %s refuses what is malformed by its field', async (method, path, name, sample) => {
  const tenant = await rig.tenant(quotas);
  const schema: SchemaNode = openApiDocument().components.schemas[name] ?? {};
  const headers = {
    'content-type': 'application/json',
    authorization: `Bearer ${path.startsWith('/v1/organization') ? ADMIN_KEY : tenant.key}`,
  };
  const url = new URL(path.replace(':project', tenant.id), rig.baseURL);
  await fc.assert(
    fc.asyncProperty(hostileBodies(sample, schema), async ({ body, param }) => {
      const response = await fetch(url, { method, headers, body });
      const { error } = await bodyOf(response);
      expect([response.status, error.type, error.param]).toEqual([400, 'invalid_request_error', param]);
    }),
    { numRuns: 60 },
  );
  expect(await rig.limits(tenant.key)).toMatchObject([{ limit: 1000, used: 0, held: 0 }]);
  expect(pool.requests).toEqual([]);
});

test('the document and its page are served', async () => {
  const document = await bodyOf<object>(await fetch(new URL('/openapi.json', rig.baseURL)));
  expect(document).toEqual(JSON.parse(JSON.stringify(openApiDocument())));
  const page = await fetch(new URL('/docs', rig.baseURL));
  expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
  expect(await page.text()).toContain('/v1/chat/completions');
});
