// GET /v1/models and /v1/key: what the caller may use, and where its limits stand.
import { Hono } from 'hono';
import type { ServedModel } from '../../pool/wire/events.ts';
import { authenticate, presentedKey } from '../authenticate.ts';
import { modelNotFound } from '../errors.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { limitBody } from './limits.ts';
import { seconds, secondsOrNull } from './lists.ts';

function modelBody({ id, created, context_length }: ServedModel) {
  return { id, object: 'model', created, owned_by: 'hearth', context_length };
}

export function modelRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const usable = async (request: Request): Promise<ServedModel[]> => {
    const { allowedModels } = await authenticate(presentedKey(request, ports), ports);
    return ports.registry.models().filter(({ id }) => allowedModels?.includes(id) ?? true);
  };
  app.get('/v1/models', async (c) => {
    return c.json({ object: 'list', data: (await usable(c.req.raw)).map(modelBody) });
  });
  // A model's id may hold slashes.
  app.get('/v1/models/:id{.+}', async (c) => {
    const id = c.req.param('id');
    const model = (await usable(c.req.raw)).find((one) => one.id === id);
    if (!model) throw modelNotFound(id);
    return c.json(modelBody(model));
  });
  app.get('/v1/key', async (c) => {
    const { key, limits, allowedModels } = await authenticate(presentedKey(c.req.raw, ports), ports);
    return c.json({
      object: 'key',
      id: key.id,
      name: key.name,
      project_id: key.tenant,
      redacted_value: key.redacted,
      created_at: seconds(key.createdAtMs),
      expires_at: secondsOrNull(key.expiresAtMs),
      allowed_models: allowedModels,
      limits: limits.map(limitBody),
    });
  });
  return app;
}
