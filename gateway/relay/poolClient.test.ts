// What a pool says of its own failure reaches whoever decides where a request goes on: told in an answer or in the stream.
import { createSecretKey, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { WireError } from '../../pool/wire/events.ts';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';
import { systemClock } from '../clock.ts';
import { PoolClient } from './poolClient.ts';
import { PoolRequestError } from './poolRequest.ts';

const FULL: WireError = {
  ...{ status: 503, message: 'Full.', type: 'server_error', param: null, code: 'overloaded', resumable: true },
};

const pool = new ScriptedPool();
beforeAll(() => pool.start());
afterAll(() => pool.kill());

/** The error that it ends with. */
async function failureOf(requestId: string): Promise<WireError | undefined> {
  const { id, url, keyId, secretHex } = pool;
  const secret = createSecretKey(Buffer.from(secretHex, 'hex'));
  const client = new PoolClient({ id, url, keyId, secret }, { fetch, clock: systemClock, random: randomBytes });
  const request = { model: 'tiny', prompt: 'ab', max_tokens: 3, seed: 1 };
  const grant = { tenant: 't', requestId, deadlineMs: Date.now() + 10_000, holdTokens: 5, weight: 1 };
  try {
    const { events } = await client.infer({ kind: 'completion', request }, grant, AbortSignal.timeout(10_000));
    const told = (await Array.fromAsync(events)).flat().at(-1);
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
