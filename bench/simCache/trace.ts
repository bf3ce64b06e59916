// A trace of requests as block ids, read line by line: {"hash_ids": [ids of its chained blocks], "input_length": tokens, …}, the form in
// which Mooncake published theirs (github.com/kvcache-ai/Mooncake); others have since, with blocks of other sizes. Ids become dense numbers of
// (what it continues, its own id): a block is its whole prefix. `input_length` says no more than whether the last block is full, so it may
// be missing. What the file gets wrong is told with its line.
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { Numbering } from './numbering.ts';

/** Tokens of a block in published traces, Mooncake's first. A trace is taken to have the size that most of its lines fit. */
const BLOCK_TOKENS = [512, 16, 32, 64, 128, 256, 1024, 2048];
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

/** A request as a file has it: when it came, and what it was, where that is told. */
export interface RecordedRequest extends TraceRequest {
  arrivalMs: number | null;
  inputTokens: number | null;
  outputTokens: number | null;
}

export interface Trace {
  requests: TraceRequest[];
  /** Different blocks. */
  blockCount: number;
}

/** A trace as a file has it. */
export interface RecordedTrace extends Trace {
  requests: RecordedRequest[];
  /** Tokens of a block; null where no `input_length` tells. */
  blockTokens: number | null;
  /** Requests whose `input_length` is missing or fits no such blocks: their last block counts as full. */
  unmeasured: number;
}

export class TraceError extends Error {
  override readonly name = 'TraceError';

  constructor(file: string, line: number, problem: string) {
    super(`${file}:${line}: ${problem}`);
  }
}

/** Numbers prefixes: equal ids that continue equal prefixes of one tenant are one block. */
export class BlockNumbering {
  readonly #ids = new Numbering();
  readonly #children = new Numbering();
  readonly #tenants = new Map<string, number>();

  get count(): number {
    return this.#children.size;
  }

  number(tenant: string, ids: ArrayLike<number>): Int32Array {
    let above: number = this.#tenants.get(tenant) ?? MAX_BLOCKS - 1 - this.#tenants.size;
    this.#tenants.set(tenant, above);
    const blocks = new Int32Array(ids.length);
    for (let i = 0; i < ids.length; i++) {
      above = this.#children.number(above * MAX_BLOCKS + this.#ids.number(ids[i]!));
      blocks[i] = above;
    }
    return blocks;
  }
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

interface Line {
  ids: number[];
  tokens: number | null;
  arrivalMs: number | null;
  outputTokens: number | null;
}

function parseLine(text: string): Line | string {
  let line: unknown;
  try {
    line = JSON.parse(text);
  } catch (error) {
    return `is not JSON: ${(error as Error).message}`;
  }
  if (typeof line !== 'object' || line === null) return 'is not an object';
  const { hash_ids: ids, input_length: tokens = null, timestamp, output_length } = line as Record<string, unknown>;
  if (!Array.isArray(ids) || !ids.every(isWhole)) return '"hash_ids" must be a list of whole numbers from 0 to 2^53';
  if (tokens !== null && !isWhole(tokens)) return '"input_length" must be a whole number of tokens, or missing';
  const known = (value: unknown): number | null => (isWhole(value) ? value : null);
  return { ids, tokens, arrivalMs: known(timestamp), outputTokens: known(output_length) };
}

const fits = (tokens: number, blocks: number, blockTokens: number) => Math.ceil(tokens / blockTokens) === blocks;

/** Throws TraceError, with the line, on what is not a trace, and where the file can't be read. */
export async function readTrace(file: string): Promise<RecordedTrace> {
  const stream = createReadStream(file);
  const numbering = new BlockNumbering();
  const read: (Omit<Line, 'ids'> & { blocks: Int32Array })[] = [];
  const fitting = BLOCK_TOKENS.map(() => 0);
  let lineNumber = 0;
  for await (const text of linesOf(file, stream)) {
    lineNumber += 1;
    if (text.trim() === '') continue;
    const line = parseLine(text);
    if (typeof line === 'string') throw new TraceError(file, lineNumber, line);
    const { ids, tokens, ...others } = line;
    if (numbering.count + ids.length > MAX_BLOCKS / 2)
      throw new TraceError(file, lineNumber, `more than ${MAX_BLOCKS / 2} different blocks`);
    if (ids.length === 0) continue;
    read.push({ blocks: numbering.number('', ids), tokens, ...others });
    if (tokens === null) continue;
    for (const [i, size] of BLOCK_TOKENS.entries()) if (fits(tokens, ids.length, size)) fitting[i]! += 1;
  }
  if (read.length === 0) throw new TraceError(file, lineNumber, 'no requests');
  const most = Math.max(...fitting);
  const blockTokens = most > 0 ? BLOCK_TOKENS[fitting.indexOf(most)]! : null;
  const requests = read.map(({ blocks, tokens, arrivalMs, outputTokens }) => {
    const isMeasured = blockTokens !== null && tokens !== null && fits(tokens, blocks.length, blockTokens);
    const endsPartial = isMeasured && tokens % blockTokens !== 0;
    return { blocks, endsPartial, tenant: '', arrivalMs, inputTokens: tokens, outputTokens };
  });
  return { requests, blockCount: numbering.count, blockTokens, unmeasured: read.length - most };
}

/** Its lines, without a byte order mark before the first. */
async function* linesOf(file: string, stream: Readable): AsyncGenerator<string> {
  let isFirst = true;
  try {
    // A file that isn't there fails before readline listens.
    await once(stream, 'open');
    for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      yield isFirst ? line.replace(/^\uFEFF/, '') : line;
      isFirst = false;
    }
  } catch (error) {
    throw new TraceError(file, 0, `can't be read: ${(error as Error).message}`);
  }
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
