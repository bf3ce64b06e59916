// What the gateways of the bench forward to, as one process that costs as little as can be: a Hearth pool that checks signatures, keeps
// receipts until they are acknowledged and answers at once; and, on another port, the same answer as a plain OpenAI server gives it.
// `node instantPool.ts '{"tokens","poolId","keyId","secretHex","model","holdOpenMs"}'` prints one line of JSON: {"poolPort","openaiPort"}.
// A request whose messages begin with "hold" gets its first token, and the rest after `holdOpenMs`.
import { createSecretKey } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { invariant } from '../../engine/invariant.ts';
import { acknowledgeBody, type PoolEvent, type PoolStatus, type Receipt } from '../../pool/wire/events.ts';
import { digestOfSet, prefixSet } from '../../pool/wire/publicPrefixes.ts';
import { signAnswer, signEvent, verifyRequest } from '../../pool/wire/signing.ts';
import { openaiAnswer } from './openaiAnswer.ts';

const task = z
  .object({
    tokens: z.int(),
    poolId: z.string(),
    keyId: z.string(),
    secretHex: z.string(),
    model: z.string(),
    holdOpenMs: z.number(),
  })
  .parse(JSON.parse(process.argv[2] ?? '{}'));
const secret = createSecretKey(task.secretHex, 'hex');
const startedAtMs = Date.now();
const receipts = new Map<string, Receipt>();
let prefixDigest: string | null = null;

/** Characters of the prompt are its tokens: what the gateway reserves for is real. */
const PROMPT_TOKENS = 24;
/** Longer than a round of the others. */
const KEEP_ALIVE_MS = 600_000;

const status = (): PoolStatus => ({
  pool_id: task.poolId,
  started_at_ms: startedAtMs,
  state: 'warm',
  models: [
    {
      id: task.model,
      created: 1_700_000_000,
      context_length: 8192,
      template_tokens_per_message: 4,
      template_tokens_per_prompt: 3,
      fingerprint: 'fp_bench',
      state: 'warm',
    },
  ],
  adapter: 'none',
  running: 0,
  waiting: 0,
  blocks_total: 1000,
  blocks_free: 1000,
  public_prefixes: prefixDigest,
});

function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  return new Promise((resolve, reject) => {
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => resolve(Buffer.concat(pieces)));
    request.on('error', reject);
  });
}

const usage = (released: number) => ({
  prompt_tokens: PROMPT_TOKENS,
  cached_tokens: 0,
  completion_tokens: released,
});
/** All of an answer but its end: the same for every request. */
const beginning: PoolEvent[] = [
  { type: 'prompt', prompts: [Array.from({ length: PROMPT_TOKENS }, (_, i) => i)], prompt_tokens: PROMPT_TOKENS },
  ...Array.from(
    { length: task.tokens },
    (_, position): PoolEvent => ({
      ...{ type: 'delta', choice: 0, position, ids: [1000 + position], text: ` w${position}` },
      ...(position === task.tokens - 1 && { finish_reason: 'length' }),
      usage: usage(position + 1),
    }),
  ),
];
const BEGINNING = beginning.map((event) => JSON.stringify(event));
const ANSWER = openaiAnswer(task.model, task.tokens, PROMPT_TOKENS);
/** What comes before an answer is held open: the prompt and the first token. */
const HELD_AT = 2;

async function pool(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await bodyOf(request);
  const path = request.url ?? '';
  const verified = verifyRequest(
    (keyId) => (keyId === task.keyId ? secret : undefined),
    { method: request.method ?? '', path, header: (name) => [request.headers[name]].flat()[0], body },
    Date.now(),
  );
  if (!verified.ok) {
    response.writeHead(401).end('{}');
    return;
  }
  const { nonce, requestId = '', tenant = '' } = verified.context;
  const json = (value: unknown): void => {
    const bytes = Buffer.from(JSON.stringify(value));
    response
      .writeHead(200, {
        'content-type': 'application/json',
        'hearth-signature': signAnswer(secret, nonce, 200, bytes),
      })
      .end(bytes);
  };
  if (path === '/pool/status') return json(status());
  if (path === '/pool/public_prefixes') {
    prefixDigest = digestOfSet(prefixSet.parse(JSON.parse(body.toString())));
    return json({ digest: prefixDigest, prefixes: [] });
  }
  if (path === '/pool/count') return json({ prompt_tokens: [PROMPT_TOKENS] });
  if (path.startsWith('/pool/receipts')) return json(answerReceipts(request.method ?? '', path, body));
  await infer(body, { nonce, requestId, tenant }, response);
}

function answerReceipts(method: string, path: string, body: Buffer): object {
  if (method === 'DELETE') {
    for (const id of acknowledgeBody.parse(JSON.parse(body.toString())).request_ids) receipts.delete(id);
    return { ok: true };
  }
  const query = new URL(path, 'http://pool').searchParams;
  const wanted = query.get('request_id');
  const all = [...receipts.values()].filter((one) => wanted === null || one.request_id === wanted);
  const limit = Number(query.get('limit') ?? 100);
  return { receipts: all.slice(0, limit), has_more: all.length > limit };
}

async function infer(
  body: Buffer,
  { nonce, requestId, tenant }: { nonce: string; requestId: string; tenant: string },
  response: ServerResponse,
): Promise<void> {
  const receipt: Receipt = {
    ...{ request_id: requestId, pool_id: task.poolId, tenant, model: task.model, prompt_tokens: PROMPT_TOKENS },
    ...{ cached_tokens: 0, choices: [task.tokens], outcome: 'completed' },
    ...{ started_at_ms: Date.now(), updated_at_ms: Date.now() },
  };
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  let sequence = 0;
  /** What leaves in one go is one event, as of a pool. */
  const send = (lines: readonly string[]): void => {
    const id = signEvent(secret, nonce, sequence++, lines.join('\n'));
    response.write(`id: ${id}\ndata: ${lines.join('\ndata: ')}\n\n`);
  };
  const end = (): string => {
    receipts.set(requestId, receipt);
    const done: PoolEvent = { type: 'done', usage: usage(receipt.choices[0] ?? 0), receipt };
    return JSON.stringify(done);
  };
  if (body.includes('"hold')) {
    send(BEGINNING.slice(0, HELD_AT));
    await sleep(task.holdOpenMs);
    if (response.destroyed) {
      Object.assign(receipt, { choices: [HELD_AT - 1], outcome: 'cancelled' });
      end();
      return;
    }
    send([...BEGINNING.slice(HELD_AT), end()]);
  } else send([...BEGINNING, end()]);
  response.end();
}

async function openai(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await bodyOf(request);
  const { whole, events } = ANSWER;
  if (!body.includes('"stream":true')) {
    response.writeHead(200, { 'content-type': 'application/json' }).end(whole);
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
  for (const [i, event] of events.entries()) {
    response.write(event);
    if (i === 1 && body.includes('"hold')) await sleep(task.holdOpenMs);
  }
  response.end();
}

function serve(handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>): Promise<number> {
  const listener: RequestListener = (request, response) =>
    void handle(request, response).catch((error: unknown) => {
      console.error(error);
      response.destroy();
    });
  // A gateway that waits for its turn must not find its connections closed.
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, listener);
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      invariant(typeof address === 'object' && address !== null, 'listening');
      resolve(address.port);
    }),
  );
}

process.on('disconnect', () => process.exit(0));
const [poolPort, openaiPort] = [await serve(pool), await serve(openai)];
process.stdout.write(`${JSON.stringify({ poolPort, openaiPort })}\n`);
