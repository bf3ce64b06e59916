// A trace of requests as block ids, read line by line: {"input_length": tokens, "hash_ids": [ids of its chained blocks], …}, the form in
// which Mooncake published theirs (github.com/kvcache-ai/Mooncake). Ids become dense numbers of (what it continues, its own id): a block is its
// whole prefix. What the file gets wrong is told with its line.
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';

/** Tokens of a block in published traces. */
const TRACE_BLOCK_TOKENS = 512;
/** Ids and blocks are kept below this, so that a pair of them is an exact number. */
const MAX_BLOCKS = 2 ** 26;
/** Where a request's conversation shows: a first block is often a system prompt that all share. */
const CONVERSATION_DEPTH = 1;

export interface TraceRequest {
  /** Its blocks, first to last, [length]. */
  blocks: Int32Array;
  /** Its last block is not full: only exactly this prompt continues it. */
  endsPartial: boolean;
  /** Whose it is: a namespace and an account. */
  tenant: string;
}

export interface Trace {
  requests: TraceRequest[];
  /** Different blocks. */
  blockCount: number;
}

export class TraceError extends Error {
  override readonly name = 'TraceError';

  constructor(file: string, line: number, problem: string) {
    super(`${file}:${line}: ${problem}`);
  }
}

/** Numbers prefixes: equal ids that continue equal prefixes of one tenant are one block. */
export class BlockNumbering {
  readonly #dense = new Map<number, number>();
  readonly #children = new Map<number, number>();
  readonly #tenants = new Map<string, number>();

  get count(): number {
    return this.#children.size;
  }

  number(tenant: string, ids: ArrayLike<number>): Int32Array {
    let above: number = this.#tenants.get(tenant) ?? MAX_BLOCKS - 1 - this.#tenants.size;
    this.#tenants.set(tenant, above);
    const blocks = new Int32Array(ids.length);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      const dense = this.#dense.get(id) ?? this.#dense.size;
      this.#dense.set(id, dense);
      const pair = above * MAX_BLOCKS + dense;
      const block: number = this.#children.get(pair) ?? this.#children.size;
      this.#children.set(pair, block);
      blocks[i] = block;
      above = block;
    }
    return blocks;
  }
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function parseLine(text: string): { ids: number[]; tokens: number } | string {
  let line: unknown;
  try {
    line = JSON.parse(text);
  } catch (error) {
    return `is not JSON: ${(error as Error).message}`;
  }
  if (typeof line !== 'object' || line === null) return 'is not an object';
  const { hash_ids: ids, input_length: tokens } = line as { hash_ids?: unknown; input_length?: unknown };
  if (!Array.isArray(ids) || !ids.every(isWhole)) return '"hash_ids" must be a list of whole numbers from 0 to 2^53';
  if (!isWhole(tokens)) return '"input_length" must be a whole number of tokens';
  if (Math.ceil(tokens / TRACE_BLOCK_TOKENS) !== ids.length)
    return `${tokens} tokens are ${Math.ceil(tokens / TRACE_BLOCK_TOKENS)} blocks of ${TRACE_BLOCK_TOKENS}, but there are ${ids.length} "hash_ids"`;
  return { ids, tokens };
}

/** Throws TraceError, with the line, on what is not a trace, and where the file can't be read. */
export async function readTrace(file: string): Promise<Trace> {
  const stream = createReadStream(file);
  await once(stream, 'open').catch((error: Error) => {
    throw new TraceError(file, 0, `can't be read: ${error.message}`);
  });
  const numbering = new BlockNumbering();
  const requests: TraceRequest[] = [];
  let lineNumber = 0;
  for await (const text of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
    lineNumber += 1;
    if (text.trim() === '') continue;
    const line = parseLine(text);
    if (typeof line === 'string') throw new TraceError(file, lineNumber, line);
    if (numbering.count + line.ids.length > MAX_BLOCKS / 2)
      throw new TraceError(file, lineNumber, `more than ${MAX_BLOCKS / 2} different blocks`);
    if (line.ids.length === 0) continue;
    requests.push({
      blocks: numbering.number('', line.ids),
      endsPartial: line.tokens % TRACE_BLOCK_TOKENS !== 0,
      tenant: '',
    });
  }
  if (requests.length === 0) throw new TraceError(file, lineNumber, 'no requests');
  return { requests, blockCount: numbering.count };
}

/** A fixed number in [0, 1) for the conversation that a request belongs to. */
export function conversationHash({ blocks }: TraceRequest, seed = 0): number {
  let mixed = (blocks[Math.min(CONVERSATION_DEPTH, blocks.length - 1)]! + Math.imul(seed + 1, 0x9e3779b1)) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x45d9f3b);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x45d9f3b);
  return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
}

/** The first or second half of the requests, to be played from a cold start. */
export function halfOf(trace: Trace, half: 'first' | 'second'): Trace {
  const middle = trace.requests.length >> 1;
  const requests = half === 'first' ? trace.requests.slice(0, middle) : trace.requests.slice(middle);
  return { ...trace, requests };
}

/** The conversations whose hash under `seed` is below `part`: whole conversations stay or go. */
export function sampleOf(trace: Trace, part: number, seed: number): Trace {
  return { ...trace, requests: trace.requests.filter((request) => conversationHash(request, seed) < part) };
}
