// Structured logs: one JSON object per line, names and numbers only. No prompt, completion, key or body ever goes through here.

export type LogFields = Readonly<Record<string, string | number | boolean | null>>;

export interface Log {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

export function jsonLog(write: (line: string) => void, now: () => number): Log {
  const at = (level: string) => (event: string, fields?: LogFields) =>
    write(`${JSON.stringify({ time: new Date(now()).toISOString(), level, event, ...fields })}\n`);
  return { info: at('info'), warn: at('warn'), error: at('error') };
}

/** Where an error comes from, without its message, which might quote a request; of SQLite's, what its code stands for. */
export function errorFields(error: unknown): LogFields {
  if (!(error instanceof Error)) return { error: typeof error };
  const frames = (error.stack ?? '').split('\n').filter((line) => line.trim().startsWith('at '));
  const reason = 'errstr' in error && typeof error.errstr === 'string' ? { reason: error.errstr } : {};
  return { error: error.name, ...reason, stack: frames.slice(0, 8).join('\n') };
}
