// The gateway on Cloudflare Workers: the same app, a Durable Object per tenant beneath its ledger, D1 beneath what tenants share. See
// docs/deploy-cloudflare.md. Nothing here is needed for a bill: an invocation may end at any moment, and the tenant's alarm finishes it.
import { waitUntil } from 'cloudflare:workers';
import { ConfigError } from './config.ts';
import type { EdgeEnv, WorkerContext } from './edge/cloudflare.ts';
import { EdgeHost } from './edge/edgeHost.ts';

export { TenantLedger } from './edge/tenantLedger.ts';

/** One per isolate: its environment never changes. */
const hosts = new WeakMap<EdgeEnv, EdgeHost>();

function hostOf(env: EdgeEnv): EdgeHost {
  let host = hosts.get(env);
  if (!host) {
    host = new EdgeHost(env, waitUntil);
    hosts.set(env, host);
  }
  return host;
}

/**
 * A body that the invocation itself carries to the client. When the client leaves, writing fails, which cancels the body and so the request
 * at its pool; a body that the platform reads is just dropped.
 */
function carried(response: Response, context: WorkerContext): Response {
  if (!response.body) return response;
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  context.waitUntil(response.body.pipeTo(writable).catch(() => {}));
  return new Response(readable, response);
}

function misconfigured(error: ConfigError): Response {
  console.error(error.message);
  const message = "The gateway's configuration is not valid; its log says what to change.";
  return Response.json(
    { error: { message, type: 'server_error', param: null, code: 'internal_error' } },
    { status: 500 },
  );
}

export default {
  async fetch(request: Request, env: EdgeEnv, context: WorkerContext): Promise<Response> {
    try {
      return carried(await hostOf(env).answer(request), context);
    } catch (error) {
      if (error instanceof ConfigError) return misconfigured(error);
      throw error;
    }
  },

  /** By the cron trigger. */
  async scheduled(_event: object, env: EdgeEnv): Promise<void> {
    await hostOf(env).collect();
  },
};
