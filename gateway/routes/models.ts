// GET /v1/models and /v1/key: what the caller may use, and where its limits stand.
import { Hono } from 'hono';
import type { ServedModel } from '../../pool/wire/events.ts';
import { authenticate, presentedKey } from '../authenticate.ts';
import { modelNotFound } from '../errors.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { seconds, secondsOrNull } from './lists.ts';
import { quotaBody } from './quotas.ts';

function modelBody({ id, created, context_length }: ServedModel) {
  return { id, object: 'model', created, owned_by: 'hearth', context_length };
}

export function modelRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/v1/models', async (c) => {
    await authenticate(presentedKey(c.req.raw, ports), ports);
    return c.json({ object: 'list', data: ports.registry.models().map(modelBody) });
  });
  // A model's id may hold slashes.
  app.get('/v1/models/:id{.+}', async (c) => {
    await authenticate(presentedKey(c.req.raw, ports), ports);
    const id = c.req.param('id');
    const model = ports.registry.models().find((one) => one.id === id);
    if (!model) throw modelNotFound(id);
    return c.json(modelBody(model));
  });
  app.get('/v1/key', async (c) => {
    const { key, quotas } = await authenticate(presentedKey(c.req.raw, ports), ports);
    return c.json({
      object: 'key',
      id: key.id,
      name: key.name,
      project_id: key.tenant,
      redacted_value: key.redacted,
      created_at: seconds(key.createdAtMs),
      expires_at: secondsOrNull(key.expiresAtMs),
      limits: quotas.map(quotaBody),
    });
  });
  return app;
}
