// What a request's Idempotency-Key means for it, before anything else is asked: an answer that is there already, an error, or the attempt
// that it becomes, with what its admission and its answer need to know of the key.
import { invalidRequest } from '../errors.ts';
import { openAnswer, presentedAs, sealAnswer } from '../keys/answerSeal.ts';
import type { SealedAnswer } from '../ledger/idempotency.ts';
import type { KeyPresented, NewAttempt } from '../ledger/port.ts';
import type { GatewayPorts } from '../ports.ts';
import { rateLimitHeaders } from '../rateLimitHeaders.ts';
import type { Inference } from './poolClient.ts';
import { refusalOfKeys } from './refusal.ts';

const VISIBLE_ASCII = /^[\x21-\x7e]{1,255}$/;

/** null: none was sent. Throws GatewayError (400). */
export function idempotencyKeyOf({ headers }: Request): string | null {
  const key = headers.get('idempotency-key');
  if (key === null || VISIBLE_ASCII.test(key)) return key;
  throw invalidRequest('Idempotency-Key must be 1 to 255 visible ASCII characters.', 'Idempotency-Key');
}

/** An attempt at the request of a key. */
export interface KeyedAttempt {
  /** Under which holds, pools and rows know it. */
  id: string;
  idempotency: NewAttempt;
  seal: (answer: Uint8Array) => Promise<SealedAnswer>;
}

export type Recalled =
  | { kind: 'attempt'; attempt: KeyedAttempt }
  | { kind: 'answered'; requestId: string; body: Uint8Array; headers: Record<string, string> };

/** `requestId`: of a first attempt. Throws GatewayError where its key has nothing for it, or not yet. */
export async function recall(
  ports: GatewayPorts,
  caller: KeyPresented,
  request: { key: string; salt: Uint8Array; inference: Inference; requestId: string; seed: number },
): Promise<Recalled> {
  const { keyring, ledger, clock, random, settings } = ports;
  const { key, salt, inference, requestId, seed } = request;
  const of = { tenant: caller.tenant, salt };
  const presented = presentedAs(keyring, of, key, JSON.stringify(inference));
  const { model } = inference.request;
  const nowMs = clock.now();
  const attempt = (id: string): Recalled => ({
    kind: 'attempt',
    attempt: {
      id,
      idempotency: { ...presented, seed, keptUntilMs: nowMs + settings.idempotencyKeepMs },
      seal: async (answer) => ({
        keyHash: presented.keyHash,
        sealed: await sealAnswer(keyring, of, presented, answer, random),
      }),
    },
  });
  const command = { ...caller, ...presented, model, nowMs };
  let found = await ledger.recall(command);
  if (found.kind === 'answered') {
    const body = await openAnswer(keyring, of, presented, found.answer);
    const headers = rateLimitHeaders(found.limits, nowMs);
    if (body) {
      ports.metrics.replayed();
      return { kind: 'answered', requestId: found.requestId, body, headers };
    }
    found = await ledger.recall({ ...command, unreadable: true });
  }
  if (found.kind === 'absent') return attempt(requestId);
  if (found.kind === 'lost') return attempt(found.next);
  throw refusalOfKeys(model, found.kind === 'answered' ? 'in_progress' : found.kind);
}
