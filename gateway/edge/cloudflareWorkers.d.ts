// The module that Cloudflare's runtime brings.
declare module 'cloudflare:workers' {
  export abstract class DurableObject<Env> {
    protected readonly ctx: import('./cloudflare.ts').ObjectState;
    protected readonly env: Env;
    constructor(ctx: import('./cloudflare.ts').ObjectState, env: Env);
  }
  /** Of the invocation that calls it. */
  export function waitUntil(work: Promise<unknown>): void;
}
