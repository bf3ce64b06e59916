// What can go wrong while a model is fetched. The world's failures: each message says what was tried, what came back and what to do,
// and never holds a credential, also not one that stood in a configured index address.

export type ModelSourceErrorCode =
  | 'bad_source'
  | 'not_found'
  | 'no_access'
  | 'network'
  | 'wrong_digest'
  | 'no_python'
  | 'pip_failed'
  | 'bad_archive'
  | 'no_space';

/** `retryable`: the same call may succeed later, with what was already fetched. */
export class ModelSourceError extends Error {
  override readonly name = 'ModelSourceError';
  readonly code: ModelSourceErrorCode;
  readonly retryable: boolean;

  constructor(code: ModelSourceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.retryable = code === 'network' || code === 'no_space';
  }
}

/** The digest is not the pinned one: names both, and what may have happened. */
export function wrongDigest(source: string, expected: string, actual: string): ModelSourceError {
  return new ModelSourceError(
    'wrong_digest',
    `SHA-256 of ${source} is ${actual}, but the configuration pins ${expected}. The file is not what was configured and is not used. ` +
      'If the source published a new file that you trust, put its digest into hearth.config.json; if not, look who changed it.',
  );
}

/** Text of another program for a message of ours: bounded, without the user part of addresses. */
export function quoted(text: string, maxChars = 600): string {
  const clean = text.replaceAll(/\/\/[^/\s@]+@/g, '//***@').trim();
  return clean.length > maxChars ? `…${clean.slice(-maxChars)}` : clean;
}

/** `ENOENT` and its like; empty where the error has no code. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
