// Traces through OpenTelemetry's own SDK: the spans of a request hang together and carry ids and counts; neither they nor the log ever
// hold a prompt, a completion or a key.
import { propagation, SpanStatusCode, type TextMapPropagator, trace } from '@opentelemetry/api';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ADMIN_KEY, GatewayRig, type Tenant } from '../test/support/gatewayRig.ts';

const PROMPT = 'whispered prompt';
const COMPLETION = ' whispered completion';
const exporter = new InMemorySpanExporter();
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });

let rig: GatewayRig;
let tenant: Tenant;
beforeEach(async () => {
  rig = await GatewayRig.start({}, [], provider.getTracer('test'));
  rig.pool.script = { tokens: [COMPLETION, COMPLETION, COMPLETION] };
  tenant = await rig.tenant();
  exporter.reset();
});
afterEach(async () => {
  propagation.disable();
  await rig.stop();
});

const chat = (body: object = {}, key = tenant.key) =>
  rig.request('POST', '/v1/chat/completions', {
    ...{ key, body: { model: 'tiny', max_tokens: 3, messages: [{ role: 'user', content: PROMPT }], ...body } },
  });
const spans = () => exporter.getFinishedSpans();
const span = (name: string) => {
  const found = spans().filter((one) => one.name === name);
  expect([name, found.length]).toEqual([name, 1]);
  return found[0]!;
};
const parentOf = (name: string) =>
  spans().find((one) => one.spanContext().spanId === span(name).parentSpanContext?.spanId);

test.each([false, true])(
  'a request has spans for admit, relay and settle, with ids and counts (stream: %s)',
  async (stream) => {
    const response = await chat({ stream });
    await response.text();
    await rig.unheld();
    await vi.waitFor(() => span('relay'));
    const request = span('POST /v1/chat/completions');
    expect(request.attributes).toEqual({
      'http.request.method': 'POST',
      'http.route': '/v1/chat/completions',
      'http.response.status_code': 200,
      'hearth.request.id': response.headers.get('x-request-id'),
    });
    expect(span('admit').attributes).toMatchObject({
      ...{ 'hearth.project.id': tenant.id, 'hearth.key.id': tenant.keyId, 'gen_ai.request.model': 'tiny' },
      'hearth.hold.output_tokens': 3,
    });
    expect(span('relay').attributes).toEqual({ 'hearth.pool.id': rig.pool.id, 'hearth.settled': true });
    expect(span('relay').events.map(({ name }) => name)).toEqual(['first_token']);
    const [entry] = await rig.entries();
    expect(span('settle').attributes).toEqual({
      'hearth.outcome': 'completed',
      'gen_ai.usage.input_tokens': entry?.inputTokens,
      'gen_ai.usage.cached_input_tokens': entry?.cachedInputTokens,
      'gen_ai.usage.output_tokens': 3,
    });
    expect(['admit', 'relay', 'settle'].map((name) => parentOf(name)?.name)).toEqual([
      request.name,
      request.name,
      'relay',
    ]);
    expect(new Set(spans().map((one) => one.spanContext().traceId)).size).toBe(1);
  },
);

test('a refusal is told by its code and is no error; a pool that fails is one', async () => {
  await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'day', limit_tokens: 1 }]);
  exporter.reset();
  expect((await chat()).status).toBe(400);
  expect(span('admit')).toMatchObject({ attributes: { 'error.type': '400' }, status: { code: SpanStatusCode.UNSET } });
  await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, []);
  exporter.reset();
  await rig.pool.kill();
  expect((await chat()).status).toBe(503);
  const failed = { attributes: { 'error.type': 'no_pool_ready' }, status: { code: SpanStatusCode.ERROR } };
  expect(span('relay')).toMatchObject(failed);
  expect(span('POST /v1/chat/completions').status.code).toBe(SpanStatusCode.ERROR);
});

test('a client that leaves ends the spans, and the bill is left to the settler', async () => {
  rig.pool.script = { beforeToken: () => rig.ports.clock.sleep(20) };
  const response = await chat({ stream: true, max_tokens: 50 });
  await response.body?.cancel();
  await rig.unheld();
  expect(span('relay').attributes['hearth.settled']).toBe(false);
});

test('the request hangs below its caller’s span where a propagator is registered, and only there', async () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const fromHeader: TextMapPropagator = {
    inject: () => {},
    fields: () => ['traceparent'],
    extract: (context, carrier, { get }) => {
      const [, id = '', parent = ''] = String(get(carrier, 'traceparent')).split('-');
      return trace.setSpanContext(context, { traceId: id, spanId: parent, traceFlags: 1, isRemote: true });
    },
  };
  const ask = () =>
    rig.send(new Request('http://gateway/healthz', { headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } }));
  await ask();
  expect(span('GET /healthz').spanContext().traceId).not.toBe(traceId);
  exporter.reset();
  propagation.setGlobalPropagator(fromHeader);
  await ask();
  expect(span('GET /healthz').spanContext().traceId).toBe(traceId);
});

test('no prompt, completion or key is in a span or in the log, however the request ends', async () => {
  await (await chat()).text();
  await (await chat({ stream: true })).text();
  await chat({ n: PROMPT });
  await chat({ model: PROMPT });
  await chat({ [PROMPT]: 1 });
  await chat({}, `${tenant.key}x`);
  await rig.request('GET', `/v1/models/${encodeURIComponent(PROMPT)}`, { key: tenant.key });
  const error = { status: 400, message: PROMPT, type: 'invalid_request_error', param: null, code: null };
  rig.pool.script = { refuse: error };
  await chat();
  rig.pool.script = { failAfter: { tokens: 1, error } };
  await (await chat({ stream: true })).text();
  rig.pool.script = { tamper: { event: 1, how: 'cut' } };
  await (await chat({ stream: true })).text();
  await rig.pool.kill();
  await chat();
  const said = [
    ...rig.logged,
    ...spans().map(({ name, attributes, events, status, resource }) =>
      JSON.stringify({ name, attributes, events, status, resource: resource.attributes }),
    ),
  ].join('\n');
  expect(spans().length).toBeGreaterThan(15);
  expect(rig.logged.length).toBeGreaterThan(2);
  for (const secret of [PROMPT, COMPLETION.trim(), tenant.key, ADMIN_KEY]) expect(said).not.toContain(secret);
  expect(said).toContain(tenant.keyId);
});
