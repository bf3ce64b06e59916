// A pool for the gateway's tests: a real HTTP server on loopback that speaks the signed wire protocol and keeps receipts, with a
// model of one token per character and answers that the test scripts. It can be slow, refuse, lie, die like a killed process, and go on with
// what another began.
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { invariant } from '../../engine/invariant.ts';
import type { PoolEvent, PoolStatus, Receipt, TokenLogprob, WireError } from '../../pool/wire/events.ts';
import { acknowledgeBody, fenceBody } from '../../pool/wire/events.ts';
import { HEARTBEAT_PATH, type Heartbeat } from '../../pool/wire/heartbeat.ts';
import {
  contentText,
  countRequest,
  poolChatRequest,
  poolCompletionRequest,
  promptsOf,
} from '../../pool/wire/inference.ts';
import {
  digestOfSet,
  type PrefixDeclaration,
  type PrefixSet,
  prefixDeclaration,
  prefixSet,
} from '../../pool/wire/publicPrefixes.ts';
import { type SignedContext, signAnswer, signEvent, signRequest, verifyRequest } from '../../pool/wire/signing.ts';

export interface Script {
  /** Text of each output token of a choice; the request's max_tokens cuts it. Default: " w0", " w1", … without end. */
  tokens?: readonly string[];
  /** Awaited before the pool takes the request on; if its caller is gone by then, it doesn't. */
  beforeAnswer?: () => Promise<void>;
  /** JSON answers are signed by somebody else. */
  forgeAnswers?: boolean;
  /** It has no fence. */
  olderVersion?: boolean;
  /** All events leave in one go, as one that is signed once. */
  atOnce?: boolean;
  /** Tokens are counted without ids, as where the engine is of another make. */
  countsOnly?: boolean;
  /** Awaited before each output token. */
  beforeToken?: (position: number) => Promise<void>;
  /** Refused before anything begins. */
  refuse?: WireError;
  /** Tokens after which the request fails with this event. */
  failAfter?: { tokens: number; error: WireError };
  /** What a broken or hostile pool does to the stream at its k-th event. */
  tamper?: { event: number; how: 'signature' | 'cut' | 'position' | 'receipt' };
}

const PER_MESSAGE = 4;
const PER_PROMPT = 3;

export class ScriptedPool {
  readonly id: string;
  keyId = 'key-1';
  secretHex = '5a'.repeat(32);
  readonly model = 'tiny';
  contextLength = 4096;
  fingerprint = 'fp_scripted';
  script: Script = {};
  state: PoolStatus['state'] = 'warm';
  /** Every inference that was accepted or refused, in order. */
  readonly requests: { context: SignedContext; body: Record<string, unknown> }[] = [];
  counted = 0;
  readonly fenced = new Set<string>();
  /** As last pushed. */
  prefixes: PrefixSet | null = null;
  readonly #receipts = new Map<string, Receipt>();
  readonly #nonces = new Set<string>();
  #server: Server | undefined;
  #port = 0;
  #startedAtMs = 0;

  constructor(id = 'pool-a') {
    this.id = id;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens; again on the same port after `kill`. Requests that ran at the kill are lost, as a journal tells it. */
  async start(): Promise<void> {
    this.#startedAtMs = Date.now();
    this.prefixes = null;
    const server = createServer((request, response) => void this.#handle(request, response));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    const address = server.address();
    invariant(typeof address === 'object' && address !== null, 'listening');
    this.#port = address.port;
  }

  /** As SIGKILL: every connection breaks at once, the port refuses. */
  async kill(): Promise<void> {
    for (const receipt of this.#receipts.values()) if (receipt.outcome === 'running') receipt.outcome = 'lost';
    const server = this.#server;
    this.#server = undefined;
    server?.closeAllConnections();
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
  }

  receipt(requestId: string): Receipt | undefined {
    return this.#receipts.get(requestId);
  }

  /** As if what has ended had ended so much earlier. */
  age(ms: number): void {
    for (const receipt of this.#receipts.values()) if (receipt.outcome !== 'running') receipt.updated_at_ms -= ms;
  }

  get running(): number {
    return [...this.#receipts.values()].filter(({ outcome }) => outcome === 'running').length;
  }

  get unacknowledged(): number {
    return this.#receipts.size;
  }

  /** A heartbeat as it sends one: what `signRequest` makes of it, and its body. `over` changes what is told, `signedAtMs` when. */
  heartbeat(over: Partial<Heartbeat> = {}, signedAtMs = Date.now()): { headers: Record<string, string>; body: string } {
    const body = JSON.stringify({ url: this.url, status: this.#status(), ...over });
    const nonce = randomBytes(16).toString('hex');
    const context = { method: 'POST', path: HEARTBEAT_PATH, timeMs: signedAtMs, nonce };
    const signed = { ...context, keyId: this.keyId, poolId: this.id };
    return { headers: signRequest(Buffer.from(this.secretHex, 'hex'), signed, Buffer.from(body)), body };
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(Buffer.from(piece));
    const body = Buffer.concat(pieces);
    const secret = Buffer.from(this.secretHex, 'hex');
    const path = request.url ?? '';
    const header = (name: string) => [request.headers[name]].flat()[0];
    const verified = verifyRequest(
      (keyId) => (keyId === this.keyId ? secret : undefined),
      { method: request.method ?? '', path, header, body },
      Date.now(),
    );
    const fresh = verified.ok && verified.context.poolId === this.id && verified.context.timeMs >= this.#startedAtMs;
    if (!verified.ok || !fresh || this.#nonces.has(verified.context.nonce)) {
      response.writeHead(401).end('{}');
      return;
    }
    const { context } = verified;
    this.#nonces.add(context.nonce);
    const json = (status: number, value: unknown) => {
      const bytes = Buffer.from(JSON.stringify(value));
      const key = this.script.forgeAnswers ? Buffer.alloc(32) : secret;
      const signature = signAnswer(key, context.nonce, status, bytes);
      response.writeHead(status, { 'content-type': 'application/json', 'hearth-signature': signature }).end(bytes);
    };
    const value: unknown = body.length > 0 ? JSON.parse(body.toString()) : undefined;
    if (path === '/pool/status') return json(200, this.#status());
    if (path === '/pool/count') {
      this.counted += 1;
      const question = countRequest.parse(value);
      return json(200, {
        prompt_tokens: ('messages' in question
          ? [this.chatIds(question.messages)]
          : this.promptIds(question.prompt)
        ).map((p) => p.length),
      });
    }
    if (path === '/pool/fence' && !this.script.olderVersion) {
      const { request_id } = fenceBody.parse(value);
      const fenced = !this.#receipts.has(request_id);
      if (fenced) this.fenced.add(request_id);
      return json(200, { fenced });
    }
    if (path === '/pool/fence') return void response.writeHead(404).end('{}');
    if (path === '/pool/public_prefixes') return json(200, this.#setPrefixes(prefixSet.parse(value)));
    if (path === '/pool/public_prefixes/render') return this.#renderPrefix(prefixDeclaration.parse(value), json);
    if (path.startsWith('/pool/receipts')) {
      const answer = this.#answerReceipts(request.method ?? '', path, value);
      return json(answer.status, answer.value);
    }
    await this.#infer(path, context, value, response, json);
  }

  #status(): PoolStatus {
    const { running } = this;
    const model = {
      id: this.model,
      created: 1_700_000_000,
      context_length: this.contextLength,
      template_tokens_per_message: PER_MESSAGE,
      template_tokens_per_prompt: PER_PROMPT,
      fingerprint: this.fingerprint,
      state: this.state,
    };
    return {
      pool_id: this.id,
      started_at_ms: this.#startedAtMs,
      state: this.state,
      models: [model],
      adapter: 'scripted',
      running,
      waiting: 0,
      blocks_total: 100,
      blocks_free: 100,
      public_prefixes: this.prefixes && digestOfSet(this.prefixes),
    };
  }

  #setPrefixes(set: PrefixSet): object {
    this.prefixes = set;
    const prefixes = set.prefixes.map(({ id, text }) => ({ id, state: 'declared', tokens: text?.length ?? 0 }));
    return { digest: digestOfSet(set), prefixes };
  }

  /** A prefix of text, one token per character, of which a block is the least. */
  #renderPrefix({ text = '' }: PrefixDeclaration, json: (status: number, value: unknown) => void): void {
    const error = { message: 'too short', type: 'invalid_request_error', param: 'text', code: null };
    if (text.length >= 16) json(200, { tokens: text.length });
    else json(400, { error });
  }

  #answerReceipts(method: string, path: string, value: unknown): { status: number; value: unknown } {
    if (method === 'DELETE') {
      for (const id of acknowledgeBody.parse(value).request_ids)
        if (this.#receipts.get(id)?.outcome !== 'running') this.#receipts.delete(id);
      return { status: 200, value: { ok: true } };
    }
    const query = new URL(path, 'http://pool').searchParams;
    const wanted = query.get('request_id');
    if (wanted !== null) {
      const receipt = this.#receipts.get(wanted);
      if (receipt) return { status: 200, value: { receipts: [receipt], has_more: false } };
      return {
        status: 404,
        value: {
          error: { message: 'unknown request', type: 'invalid_request_error', param: null, code: 'not_found' },
        },
      };
    }
    const ended = [...this.#receipts.values()].filter(({ outcome }) => outcome !== 'running');
    const limit = Number(query.get('limit') ?? 100);
    return { status: 200, value: { receipts: ended.slice(0, limit), has_more: ended.length > limit } };
  }

  /** Why a request with this id, begun before (under this fingerprint), can't begin here. */
  #conflict(
    requestId: string,
    before: boolean,
    fingerprint: string | undefined,
  ): 'duplicate_request' | 'fingerprint_mismatch' | null {
    if (fingerprint !== undefined && fingerprint !== this.fingerprint) return 'fingerprint_mismatch';
    const earlier = this.#receipts.get(requestId)?.outcome;
    const over = earlier === undefined || (before && !['running', 'completed'].includes(earlier));
    return over ? null : 'duplicate_request';
  }

  /** One id per character: its code point. */
  chatIds(messages: readonly { content: Parameters<typeof contentText>[0]; name?: string | undefined }[]): number[] {
    const overhead = Array.from({ length: PER_PROMPT + messages.length * PER_MESSAGE }, () => 1);
    return [...overhead, ...messages.flatMap(({ content, name }) => idsOf(contentText(content) + (name ?? '')))];
  }

  promptIds(prompt: Parameters<typeof promptsOf>[0]): number[][] {
    return promptsOf(prompt).map((one) => (typeof one === 'string' ? idsOf(one) : one));
  }

  async #infer(
    path: string,
    context: SignedContext,
    value: unknown,
    response: ServerResponse,
    json: (status: number, value: unknown) => void,
  ): Promise<void> {
    const isChat = path === '/v1/chat/completions';
    const chat = isChat ? poolChatRequest.parse(value) : undefined;
    const completion = isChat ? undefined : poolCompletionRequest.parse(value);
    const request = chat ?? completion;
    invariant(request && typeof value === 'object' && value !== null, 'an inference request');
    this.requests.push({ context, body: { ...value } });
    const { script } = this;
    await script.beforeAnswer?.();
    if (response.destroyed) return;
    if (this.fenced.has(context.requestId ?? '')) {
      const error = { message: 'Given up.', type: 'server_error', param: null, code: 'no_pool_ready' };
      return json(503, { error });
    }
    if (script.refuse) {
      const { status, retry_after_ms: _, ...error } = script.refuse;
      return json(status, { error });
    }
    const { resume, anew } = request;
    const conflict = this.#conflict(context.requestId ?? '', Boolean(resume ?? anew), resume?.fingerprint);
    if (conflict) {
      const error = { message: 'It can not begin here.', type: 'invalid_request_error', param: null, code: conflict };
      return json(409, { error });
    }
    const rendered = chat ? [this.chatIds(chat.messages)] : this.promptIds(completion?.prompt ?? '');
    const prompts = resume?.prompts ?? rendered;
    const n = request.n ?? 1;
    const maxTokens = (chat ? chat.max_completion_tokens : completion?.max_tokens) ?? 0;
    const promptTokens = prompts.reduce((sum, ids) => sum + ids.length, 0);
    const choices = prompts.length * n;
    const begun = resume?.choices ?? Array.from({ length: choices }, () => ({ ids: [], finish_reason: null }));
    const scored = resume?.prompt_logprobs ?? prompts.map(() => 0);
    invariant(
      begun.length === choices && scored.length === prompts.length && prompts.length === rendered.length,
      'what was told is of this request',
    );
    const { cached_tokens: cached = 0, ...drafts } = resume?.usage ?? {};
    const { requestId = '', tenant = '', holdTokens = 0, deadlineMs = 0 } = context;
    invariant(holdTokens >= promptTokens + choices * maxTokens, 'the hold covers prompt and output', {
      holdTokens,
      promptTokens,
    });
    invariant(
      deadlineMs > Date.now() && context.weight && request.seed !== undefined && request.cache_salt === undefined,
      'signed context is complete',
    );
    const receipt: Receipt = {
      request_id: requestId,
      pool_id: this.id,
      tenant,
      model: request.model,
      prompt_tokens: promptTokens,
      cached_tokens: begun.some(({ ids }) => ids.length > 0) ? cached : Math.min(2, promptTokens),
      choices: begun.map(({ ids }) => ids.length),
      ...drafts,
      outcome: 'running',
      started_at_ms: Date.now(),
      updated_at_ms: Date.now(),
    };
    this.#receipts.set(requestId, receipt);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const left = () => response.destroyed || response.writableEnded;
    response.once('close', () => {
      if (receipt.outcome === 'running') end('cancelled');
    });

    let [told, sequence] = [0, 0];
    let lines: string[] = [];
    let key = Buffer.from(this.secretHex, 'hex');
    const emit = (event: PoolEvent) => {
      const { tamper } = script;
      const now = tamper?.event === told++ ? tamper.how : null;
      if (now === 'cut') return void response.destroy();
      const moved = now === 'position' && event.type === 'delta' ? { ...event, position: event.position + 1 } : event;
      const said =
        now === 'receipt' && moved.type === 'done'
          ? { ...moved, receipt: { ...moved.receipt, request_id: 'req_other' } }
          : moved;
      lines.push(JSON.stringify(said));
      if (now === 'signature') key = Buffer.alloc(32);
      if (script.atOnce && event.type !== 'done' && event.type !== 'error') return;
      const id = signEvent(key, context.nonce, sequence++, lines.join('\n'));
      response.write(`id: ${id}\ndata: ${lines.join('\ndata: ')}\n\n`);
      lines = [];
    };
    const end = (outcome: Receipt['outcome']) => {
      receipt.outcome = outcome;
      receipt.updated_at_ms = Date.now();
    };
    const usage = () => ({
      prompt_tokens: promptTokens,
      cached_tokens: receipt.cached_tokens,
      completion_tokens: receipt.choices.reduce((sum, one) => sum + one, 0),
      ...drafts,
    });

    emit({ type: 'prompt', prompts, prompt_tokens: promptTokens });
    if (completion?.echo)
      for (const [prompt, ids] of prompts.entries()) {
        const tokens = ids.map((id, i) => logprobOf(String.fromCodePoint(id), i === 0 ? null : -0.5));
        const left = tokens.slice(scored[prompt]);
        if (left.length > 0) emit({ type: 'prompt_logprobs', prompt, tokens: left });
      }
    const wantsLogprobs = chat ? chat.logprobs === true : typeof completion?.logprobs === 'number';
    const most = Math.min(maxTokens, script.tokens?.length ?? maxTokens);
    const open = begun.flatMap(({ ids, finish_reason }, choice) =>
      finish_reason === null ? [{ choice, from: ids.length }] : [],
    );
    for (let position = Math.min(...open.map(({ from }) => from)); position < most; position++) {
      await script.beforeToken?.(position);
      for (const { choice, from } of open) {
        if (position < from) continue;
        if (left() || receipt.outcome !== 'running') return;
        if (script.failAfter && usage().completion_tokens >= script.failAfter.tokens) {
          end('failed');
          emit({
            type: 'error',
            error: script.failAfter.error,
            receipt: { ...receipt, choices: [...receipt.choices] },
          });
          return void response.end();
        }
        const text = script.tokens?.[position] ?? ` w${position}`;
        receipt.choices[choice] = position + 1; // journal first, then release
        const last = position === most - 1;
        emit({
          type: 'delta',
          choice,
          position,
          ...(script.countsOnly ? { ids: [], count: 1 } : { ids: [1000 + position] }),
          text,
          ...(wantsLogprobs && { logprobs: [logprobOf(text, -0.25)] }),
          ...(last && { finish_reason: most < maxTokens ? 'stop' : 'length' }),
          usage: usage(),
        });
      }
    }
    end('completed');
    emit({ type: 'done', usage: usage(), receipt: { ...receipt, choices: [...receipt.choices] } });
    response.end();
  }
}

function idsOf(text: string): number[] {
  return [...text].map((character) => character.codePointAt(0) ?? 0);
}

function logprobOf(token: string, logprob: number | null): TokenLogprob {
  const bytes = [...new TextEncoder().encode(token)];
  const other = { id: 7, token: '~', bytes: [126], logprob: -2 };
  return { id: 1, token, bytes, logprob, top: [{ id: 1, token, bytes, logprob: logprob ?? 0 }, other] };
}
