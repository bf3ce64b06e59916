// How a supervised process talks to its supervisor: its section as the first line of stdin, JSON lines on stdout, logs on stderr.
// The end of stdin means that the supervisor is gone, and then the process goes, too.
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { createLog, errorText, type Log } from './log.ts';

export const processMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('progress'), stage: z.string(), done: z.number(), total: z.number() }).loose(),
  z.object({ type: z.literal('ready'), port: z.int().min(1).max(65_535) }).loose(),
  /** Of the whole process, now and then. */
  z.object({ type: z.literal('memory'), rssBytes: z.int().min(0) }).loose(),
  /** A gateway has the pools that it was told. */
  z.object({ type: z.literal('pools') }).loose(),
  z.object({ type: z.literal('fatal'), code: z.string().optional(), message: z.string() }).loose(),
]);
export type ProcessMessage = z.infer<typeof processMessage>;

/** Longest section: a few keys and model paths are a few kilobytes. */
export const MAX_SECTION_BYTES = 1_048_576;

/** The section did not come, or is not what the process needs. */
export class SectionError extends Error {
  override readonly name = 'SectionError';
  readonly code = 'invalid_section';
}

/** Reads the section's line and hands the stream on: `ended` resolves when the supervisor closes it. Throws SectionError. */
export async function readSection(stdin: Readable): Promise<{ section: unknown; ended: Promise<void> }> {
  const line = Promise.withResolvers<string>();
  const ended = Promise.withResolvers<void>();
  let head: Buffer | null = Buffer.alloc(0);
  stdin.on('data', (chunk: Buffer) => {
    if (!head) return; // nothing else is said on stdin
    head = Buffer.concat([head, chunk]);
    const newline = head.indexOf(0x0a);
    if (newline >= 0) line.resolve(head.toString('utf8', 0, newline));
    else if (head.length > MAX_SECTION_BYTES)
      line.reject(new SectionError(`the section on stdin is longer than ${MAX_SECTION_BYTES} bytes`));
    else return;
    head = null;
  });
  const gone = () => {
    line.reject(new SectionError('stdin ended before the section came: start this process through its supervisor'));
    ended.resolve();
  };
  stdin.once('end', gone).once('close', gone).once('error', gone);
  return { section: parseJson(await line.promise), ended: ended.promise };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new SectionError('the section on stdin is not JSON');
  }
}

/** How a supervised process hears and speaks. */
export interface ProcessIo {
  stdin: Readable;
  /** One line of the supervisor's protocol. */
  say: (message: ProcessMessage) => void;
  logLine: (line: string) => void;
  /** Resolves at SIGTERM or SIGINT. */
  signalled: Promise<void>;
}

/** A pool process from its section to its end; resolves with the exit code. What it can't go on with is said as `fatal`. */
export async function runProcess<T extends z.ZodType>(
  { stdin, say, logLine, signalled }: ProcessIo,
  schema: T,
  run: (section: z.output<T>, log: Log, stop: Promise<void>) => Promise<number>,
): Promise<number> {
  const log = createLog(logLine, Date.now);
  try {
    const { section, ended } = await readSection(stdin);
    const parsed = schema.safeParse(section);
    if (!parsed.success) throw sectionIssues(parsed.error);
    return await run(parsed.data, log, Promise.race([signalled, ended]));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'internal_error';
    log('error', 'fatal', { code, error: errorText(error) });
    say({ type: 'fatal', code, message: error instanceof Error ? error.message : String(error) });
    return 1;
  }
}

/** Field names and words of a schema's refusal; never values, which may be secret. */
export function sectionIssues(error: z.ZodError): SectionError {
  const issues = error.issues.map((issue) => `${issue.path.map(String).join('.') || 'section'}: ${issue.message}`);
  return new SectionError(`the section is not valid: ${issues.join('; ')}`);
}
