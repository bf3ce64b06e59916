// What a pool says of its own failure reaches whoever decides where a request goes on: told in an answer or in the stream.
import { createSecretKey, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PoolEvent, WireError } from '../../pool/wire/events.ts';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';
import { systemClock } from '../clock.ts';
import { PoolClient } from './poolClient.ts';
import { type PoolFetch, PoolRequestError } from './poolRequest.ts';

const FULL: WireError = {
  ...{ status: 503, message: 'Full.', type: 'server_error', param: null, code: 'overloaded', resumable: true },
};

const pool = new ScriptedPool();
beforeAll(() => pool.start());
afterAll(() => pool.kill());

/** Its last event. */
async function lastOf(requestId: string, through: PoolFetch = fetch): Promise<PoolEvent | undefined> {
  const { id, url, keyId, secretHex } = pool;
  const secret = createSecretKey(Buffer.from(secretHex, 'hex'));
  const client = new PoolClient(
    { id, url, keyId, secret },
    { fetch: through, clock: systemClock, random: randomBytes },
  );
  const request = { model: 'tiny', prompt: 'ab', max_tokens: 3, seed: 1 };
  const grant = { tenant: 't', requestId, deadlineMs: Date.now() + 10_000, holdTokens: 5, weight: 1 };
  const { events } = await client.infer({ kind: 'completion', request }, grant, AbortSignal.timeout(10_000));
  return (await Array.fromAsync(events)).flat().at(-1);
}

/** The error that it ends with. */
async function failureOf(requestId: string): Promise<WireError | undefined> {
  try {
    const told = await lastOf(requestId);
    return told?.type === 'error' ? told.error : undefined;
  } catch (error) {
    return error instanceof PoolRequestError && error.failure.kind === 'refused' ? error.failure.error : undefined;
  }
}

test('whether it may be resumed is told with a refusal, and with an error in the stream', async () => {
  pool.script = { refuse: FULL };
  expect(await failureOf('refused')).toEqual(FULL);
  pool.script = { failAfter: { tokens: 1, error: FULL } };
  expect(await failureOf('failed')).toEqual(FULL);
  const { resumable: _, ...forGood } = FULL;
  pool.script = { refuse: forGood };
  expect(await failureOf('refused for good')).toEqual(forGood);
});

test('a request is over with its last event, though the pool never ends its answer', async () => {
  pool.script = {};
  const unending: PoolFetch = async (url, init) => {
    const { ok, status, headers, body } = await fetch(url, init);
    async function* more() {
      yield* body ?? [];
      await new Promise(() => {});
    }
    return { ok, status, headers, body: more() };
  };
  expect(await lastOf('unending', unending)).toMatchObject({ type: 'done' });
}, 5000);
