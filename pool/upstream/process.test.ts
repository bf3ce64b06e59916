// The process of a pool whose engine is a foreign server, at its beginning and its ends.
import { createServer, type Server } from 'node:http';
import { afterEach, expect, it } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import { ScriptedUpstream } from '../../test/support/scriptedUpstream.ts';
import { askPool, collect, inferenceContext } from '../../test/support/signedPoolClient.ts';
import { startUpstreamPool, untilState } from '../../test/support/upstreamPool.ts';
import { type Receipt, receiptsAnswer } from '../wire/events.ts';

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

it('does not start without the key that it is to send, and says which variable is missing', async () => {
  await expect(startUpstreamPool('vllm', 'http://127.0.0.1:1', { apiKeyEnv: 'ABSENT_KEY' })).rejects.toThrow(
    /ABSENT_KEY.*not set/,
  );
});

it('stops at once, also while its server leaves it without an answer', async () => {
  const silent: Server = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  ends.push(
    async () => silent.closeAllConnections(),
    async () => silent.close(),
  );
  const address = silent.address();
  const pool = await startUpstreamPool('vllm', `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`);
  expect((await pool.status()).state).toBe('cold');
  await new Promise((resolve) => silent.once('request', resolve));
  const before = Date.now();
  await pool.close();
  expect(Date.now() - before).toBeLessThan(3000);
}, 40_000);

it('killed in the middle of an answer: its journal tells what had left, and that it is an estimate', async () => {
  const upstream = new ScriptedUpstream('openai');
  await upstream.start();
  ends.push(() => upstream.kill());
  const pool = await startUpstreamPool('openai', upstream.url, { sharedCache: true });
  ends.push(() => pool.close());
  await untilState(pool, 'warm');
  upstream.script = { tokenMs: 20 };
  const context = { ...inferenceContext(), cacheScope: 'a' };
  const body = { model: 'served', prompt: 'abc', max_tokens: 300 };
  const answer = await askPool(pool.address, { path: '/v1/completions', body, context });
  let seen = 0;
  const reading = (async () => {
    for await (const event of answer.events) {
      if (event.type === 'delta') seen += 1;
      if (seen === 3) process.kill(pool.supervisor.pid ?? 0, 'SIGKILL');
    }
  })();
  await expect(reading).rejects.toThrow();
  let receipt: Receipt | undefined;
  await eventually('the receipt', async () => {
    const path = `/pool/receipts?request_id=${context.requestId}`;
    const told = await askPool(pool.address, { method: 'GET', path }).catch(() => null);
    receipt = told?.status === 200 ? receiptsAnswer.parse(told.json).receipts[0] : undefined;
    return receipt !== undefined;
  });
  expect(receipt).toMatchObject({ outcome: 'lost', estimated: true, prompt_tokens: 0 });
  expect(receipt?.choices[0]).toBeGreaterThanOrEqual(3);
  await eventually('nothing is computed for it', async () => upstream.running === 0);
});

it('says of a request whose upstream has not answered yet that it runs', async () => {
  const upstream = new ScriptedUpstream('openai');
  await upstream.start();
  ends.push(() => upstream.kill());
  const pool = await startUpstreamPool('openai', upstream.url, { sharedCache: true });
  ends.push(() => pool.close());
  await untilState(pool, 'warm');
  upstream.script = { beforeMs: 1000 };
  const context = { ...inferenceContext(), cacheScope: 'a' };
  const body = { model: 'served', prompt: 'abc', max_tokens: 3 };
  const asked = askPool(pool.address, { path: '/v1/completions', body, context });
  await eventually('it is asked', async () => upstream.asked.length > 0);
  const path = `/pool/receipts?request_id=${context.requestId}`;
  const told = await askPool(pool.address, { method: 'GET', path });
  expect(told).toMatchObject({ status: 200, json: { receipts: [{ outcome: 'running', choices: [] }] } });
  expect((await collect(await asked)).at(-1)).toMatchObject({ type: 'done' });
});

it('asked nothing for the lease of a request, it ends it at the upstream, too, with its receipt', async () => {
  const upstream = new ScriptedUpstream('openai');
  await upstream.start();
  ends.push(() => upstream.kill());
  const pool = await startUpstreamPool('openai', upstream.url, { sharedCache: true });
  ends.push(() => pool.close());
  await untilState(pool, 'warm');
  upstream.script = { tokenMs: 20 };
  const context = { ...inferenceContext(), cacheScope: 'a', leaseMs: 1500 };
  const body = { model: 'served', prompt: 'abc', max_tokens: 300 };
  const fromMs = Date.now();
  const events = await collect(await askPool(pool.address, { path: '/v1/completions', body, context }));
  expect(Date.now() - fromMs).toBeLessThan(4000);
  expect(events.at(-1)).toMatchObject({
    type: 'error',
    error: { code: 'no_pool_ready' },
    receipt: { outcome: 'failed', request_id: context.requestId },
  });
  await eventually('nothing is computed for it', async () => upstream.running === 0);
});
