// A gateway as its tests ask it, wherever it runs: requests, and shorthands for what every test needs of the administration.

import { invariant } from '../../engine/invariant.ts';
import { HEARTBEAT_PATH } from '../../pool/wire/heartbeat.ts';

export const ADMIN_KEY = 'sk-admin-of-the-test-rig-0000';

export interface Tenant {
  id: string;
  key: string;
  keyId: string;
}

export interface Limit {
  metric: string;
  window: string;
  limit: number;
  used: number;
  held: number;
  remaining: number;
}

export interface ErrorAnswer {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export async function bodyOf<T = ErrorAnswer>(response: Response): Promise<T> {
  const body: T = JSON.parse(await response.text());
  return body;
}

export interface AskOptions {
  key?: string;
  /** Sent as it is when it is text. */
  body?: unknown;
  signal?: AbortSignal;
  idempotencyKey?: string;
  /** Further headers. */
  headers?: Record<string, string>;
}

export abstract class GatewayClient {
  protected abstract ask(path: string, init: RequestInit): Promise<Response>;

  async request(method: string, path: string, { key, body, signal, idempotencyKey, headers }: AskOptions = {}) {
    return this.ask(path, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
        ...(idempotencyKey !== undefined && { 'idempotency-key': idempotencyKey }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      ...(signal && { signal }),
    });
  }

  /** A pool's heartbeat, as `ScriptedPool.heartbeat` makes it. */
  async announce({ headers, body }: { headers: Record<string, string>; body: string }): Promise<Response> {
    return this.ask(HEARTBEAT_PATH, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body,
    });
  }

  /** An administrative call that must succeed. */
  async admin<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.request(method, `/v1/organization${path}`, { key: ADMIN_KEY, body });
    invariant(response.status === 200, 'the admin call succeeds', { path, status: response.status });
    return bodyOf<T>(response);
  }

  async tenant(quotas: object[] = []): Promise<Tenant> {
    const { id } = await this.admin<{ id: string }>('POST', '/projects', { name: 'test' });
    await this.admin('PUT', `/projects/${id}/token_quotas`, quotas);
    const path = `/projects/${id}/service_accounts`;
    const account = await this.admin<{ api_key: { id: string; value: string } }>('POST', path, { name: 'test' });
    return { id, key: account.api_key.value, keyId: account.api_key.id };
  }

  async limits(key: string): Promise<Limit[]> {
    return (await bodyOf<{ limits: Limit[] }>(await this.request('GET', '/v1/key', { key }))).limits;
  }
}
