// What can be wrong with a model file, its tokeniser or its chat template. The world's failures, not ours: each message names the
// field or tensor, what was found and what is supported, and holds no prompt text.

/** Why a file was refused. `truncated`: it may be whole after another download; the others stay wrong. */
export type ModelFileErrorCode = 'unreadable' | 'truncated' | 'malformed' | 'unsupported';

/** The model file can't be used. Thrown before anything is allocated for its weights. */
export class ModelFileError extends Error {
  override readonly name = 'ModelFileError';
  readonly code: ModelFileErrorCode;
  readonly retryable: boolean;

  constructor(code: ModelFileErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.retryable = code === 'truncated';
  }
}

/** `refused`: the template's own words about these messages; `missing`: the model has none; `bounds`: too slow or too long. */
export type ChatTemplateErrorCode = 'missing' | 'refused' | 'bounds';

/** The messages can't be rendered by this model's chat template. The requester's affair: a 400. */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
  readonly code: ChatTemplateErrorCode;
  readonly retryable = false;

  constructor(code: ChatTemplateErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
