// A server of a given make for tests: real HTTP on loopback, strict about what a request may hold, with an engine of one token per character
// whose answers the test scripts. It can be slow, full, wrong, broken and hostile.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { invariant } from '../../engine/invariant.ts';
import type { MakeName } from '../../pool/upstream/makes/makes.ts';
import { type ChatRequest, type CompletionRequest, contentText, promptsOf } from '../../pool/wire/inference.ts';
import { DIALECTS, type Dialect, type Kind, type Step } from './upstreamDialects.ts';

export interface UpstreamScript {
  /** Text of the answer, a token per character; max_tokens cuts it. Default: without end. */
  text?: string;
  /** Part of the prompt that a cache answered. */
  cached?: number;
  tokenMs?: number;
  /** Before the answer begins. */
  beforeMs?: number;
  /** Refused with this status; null: its body is no JSON. */
  refuse?: { status: number; message?: string | null; headers?: Record<string, string> };
  /** max_tokens is not looked at. */
  endless?: boolean;
  /** After so many tokens: the connection breaks; the answer ends; or these lines are sent. */
  after?: { tokens: number; comes: 'break' | 'end' | string };
  /** It can't generate: what is not streamed fails, as a probe's token. */
  mute?: boolean;
  /** No usage is told at the end. */
  noUsage?: boolean;
  /** In place of the truth, at the end. */
  usage?: { prompt: number; completion: number };
}

export interface Seen {
  path: string;
  body: Record<string, unknown>;
  authorization: string | undefined;
}

const BASE_FIELDS = ['model', 'stream', 'stream_options', 'max_tokens', 'seed', 'stop'];
/** For what was sent to have left. */
const FLUSH_MS = 20;
const PER_MESSAGE = 4;
const PER_PROMPT = 3;

export class ScriptedUpstream {
  readonly model = 'm';
  script: UpstreamScript = {};
  apiKey: string | null = null;
  /** What every route answers, as one that is starting. */
  loading = false;
  readonly seen: Seen[] = [];
  /** What it tells of its queue. */
  waiting = 3;
  /** Generations that run, and those whose client left. */
  running = 0;
  left = 0;
  readonly #dialect: Dialect;
  readonly #make: MakeName;
  #server: Server | null = null;
  #port = 0;

  constructor(make: MakeName) {
    this.#make = make;
    this.#dialect = DIALECTS[make];
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Generations asked for by requests: not by probes, which ask for one token. */
  get asked(): Seen[] {
    return this.seen.filter(({ body }) => body.stream === true);
  }

  /** Listens; after `kill` on the same port. */
  async start(): Promise<void> {
    const server = createServer(
      (request, response) => void this.#handle(request, response).catch(() => response.destroy()),
    );
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    const address = server.address();
    invariant(typeof address === 'object' && address !== null, 'listening');
    this.#port = address.port;
    this.#server = server;
  }

  /** Every connection breaks, the port refuses. */
  async kill(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    server?.closeAllConnections();
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
  }

  /** Tokens of a request's prompts. */
  promptTokens(body: Record<string, unknown>): number {
    if (Array.isArray(body.messages)) {
      const messages = body.messages as ChatRequest['messages'];
      return messages.reduce((sum, { content }) => sum + PER_MESSAGE + contentText(content).length, PER_PROMPT);
    }
    const prompts = promptsOf(body.prompt as CompletionRequest['prompt']);
    return prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(Buffer.from(piece));
    const body: Record<string, unknown> = pieces.length > 0 ? JSON.parse(Buffer.concat(pieces).toString()) : {};
    const path = request.url ?? '';
    const { authorization } = request.headers;
    if (request.method === 'POST') this.seen.push({ path, body, authorization });
    const json = (status: number, value: unknown, headers: Record<string, string> = {}) =>
      void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
    const refuse = (status: number, message: string, headers?: Record<string, string>) =>
      json(status, this.#dialect.error(status, message), headers);
    if (this.loading) return refuse(503, 'Loading model');
    if (this.apiKey !== null && authorization !== `Bearer ${this.apiKey}`) return refuse(401, 'no such key');
    const { counting, metrics, entry, info } = this.#dialect;
    if (path === '/v1/models')
      return json(200, { object: 'list', data: [{ id: this.model, object: 'model', ...entry }] });
    if (path === '/health') return void response.writeHead(200).end();
    if (path === info?.path) return json(200, info.body);
    if (path === metrics.path) return void response.writeHead(200).end(metrics.text(this.running, this.waiting, 0.25));
    const count = counting[path];
    if (count) return json(200, count(this.#countOf(body)));
    if (path !== '/v1/chat/completions' && path !== '/v1/completions') return refuse(404, 'Not Found');
    const kind: Kind = path === '/v1/completions' ? 'completion' : 'chat';
    const wrong = this.#problemOf(kind, body);
    if (wrong !== null) return refuse(this.#make === 'tgi' ? 422 : 400, wrong);
    if (body.stream !== true && this.script.mute) return refuse(500, 'CUDA error');
    if (body.stream !== true) {
      const prompt_tokens = this.promptTokens(body);
      return json(200, { object: 'text_completion', choices: [], usage: { prompt_tokens, completion_tokens: 1 } });
    }
    const { refuse: refusal, beforeMs = 0 } = this.script;
    if (refusal?.message === null) return void response.writeHead(refusal.status, refusal.headers).end('<html>');
    if (refusal) return refuse(refusal.status, refusal.message ?? 'refused', refusal.headers);
    if (beforeMs > 0) await sleep(beforeMs);
    await this.#generate(kind, body, response);
  }

  #countOf(body: Record<string, unknown>): number {
    if (body.messages !== undefined || body.prompt !== undefined) return this.promptTokens(body);
    return String(body.inputs ?? body.input ?? body.content ?? '').length;
  }

  /** What the make would refuse. */
  #problemOf(kind: Kind, body: Record<string, unknown>): string | null {
    const known = new Set([...BASE_FIELDS, kind === 'chat' ? 'messages' : 'prompt', ...this.#dialect.fields[kind]]);
    const unknown = Object.keys(body).find((field) => !known.has(field));
    if (unknown) return `Extra inputs are not permitted: ${unknown}`;
    const { top_p: topP, max_tokens: most } = body;
    if (this.#make === 'tgi' && typeof topP === 'number' && topP >= 1) return '`top_p` must be > 0.0 and < 1.0';
    if (this.#make === 'sglang' && body.top_k === 0) return 'top_k must be -1 (disable), or at least 1';
    if (this.promptTokens(body) + Number(most) > 512 && body.stream === true)
      return "This model's maximum context length is 512 tokens.";
    return null;
  }

  async #generate(kind: Kind, body: Record<string, unknown>, response: ServerResponse): Promise<void> {
    const { text, cached = 0, tokenMs = 0, endless, after, noUsage, usage } = this.script;
    const prompt = this.promptTokens(body);
    const perPrompt = kind === 'completion' ? promptsOf(body.prompt as CompletionRequest['prompt']).length : 1;
    const choices = perPrompt * Number(body.n ?? 1);
    const most = endless ? Number.POSITIVE_INFINITY : Number(body.max_tokens);
    const stops = [body.stop ?? []].flat().map(String);
    const wants = Boolean(body.logprobs);
    let gone = false;
    response.on('close', () => {
      gone = !response.writableEnded;
      if (gone) this.left += 1;
    });
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).flushHeaders();
    const send = (step: Step) => {
      for (const chunk of this.#dialect.chunks(kind, step, wants)) response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    };
    // What is wrong comes in one piece with what is before it.
    const atOnce = after !== undefined && after.comes !== 'break' && after.comes !== 'end';
    if (atOnce) response.cork();
    this.running += 1;
    try {
      for (let choice = 0; choice < choices; choice++) send({ type: 'first', choice, prompt });
      // An answer that ends by itself ends with a token that has no text.
      const end = text === undefined ? Number.POSITIVE_INFINITY : endOf(text, stops);
      const totals = Math.min(most, end === Number.POSITIVE_INFINITY ? end : end + 1);
      const completion = totals * choices;
      for (let at = 0; at < totals; at++) {
        if (after && at >= after.tokens) {
          if (after.comes === 'break' || after.comes === 'end') await sleep(FLUSH_MS);
          if (after.comes === 'break') return void response.destroy();
          if (after.comes === 'end') return void response.end();
          if (at === after.tokens) {
            response.write(after.comes);
            response.uncork();
          }
        }
        if (tokenMs > 0) await sleep(tokenMs);
        else if (endless) await sleep(0);
        for (let choice = 0; choice < choices; choice++) {
          if (gone) return;
          const last = at === totals - 1;
          const step = {
            choice,
            id: 1000 + at,
            total: at + 1,
            prompt,
            cached,
            text: text?.[at] ?? (at < end ? 'x' : ''),
          };
          if (!last) send({ type: 'token', ...step });
          else
            send({
              ...{ type: 'last', ...step, text: at < end ? step.text : '' },
              ...{
                reason: at < end ? 'length' : 'stop',
                completion: noUsage ? null : (usage?.completion ?? completion),
              },
              ...(usage && { prompt: usage.prompt }),
            });
        }
      }
      if (!noUsage)
        send({ type: 'usage', cached, prompt: usage?.prompt ?? prompt, completion: usage?.completion ?? completion });
      response.end('data: [DONE]\n\n');
    } finally {
      this.running -= 1;
    }
  }
}

/** Characters before the first stop string. */
function endOf(text: string, stops: readonly string[]): number {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  return Math.min(text.length, ...found);
}
