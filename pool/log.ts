// Structured log lines on stderr: one JSON object each, of named scalar fields only, so that no prompt, completion or key can slip
// in as part of an object. stdout belongs to the supervisor's protocol.

export type LogFields = Readonly<Record<string, string | number | boolean | null>>;
export type Log = (level: 'info' | 'warn' | 'error', event: string, fields?: LogFields) => void;

/** Longest string field: an error message of a driver can be pages long. */
const MAX_FIELD_CHARS = 2000;

export function createLog(write: (line: string) => void, now: () => number): Log {
  return (level, event, fields = {}) => {
    const bounded = Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [
        name,
        typeof value === 'string' && value.length > MAX_FIELD_CHARS ? `${value.slice(0, MAX_FIELD_CHARS)}…` : value,
      ]),
    );
    write(`${JSON.stringify({ time: new Date(now()).toISOString(), level, event, ...bounded })}\n`);
  };
}

/** An error in one line: name and message, for a log field. */
export function errorText(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
