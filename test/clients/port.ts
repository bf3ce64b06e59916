// An official client as the suite of all clients sees it: one call, and what its user gets of it.

export interface Call {
  baseURL: string;
  apiKey: string;
  maxRetries: number;
  /** A chat. */
  body: object;
  idempotencyKey: string | null;
}

export type Told =
  | { text: string; tokens: number }
  /** The class that was thrown; `status`: null where the error came inside a stream. */
  | { error: string; status: number | null; code: string | null };

export interface Client {
  call(call: Call): Promise<Told>;
  close(): Promise<void>;
}
