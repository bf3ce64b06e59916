// /v1/organization/admin_api_keys: create (its value shown once), list, get, delete. The configured admin key is not among them and can't
// be deleted here.
import { Hono } from 'hono';
import { z } from 'zod';
import { invalidRequest, notFound } from '../errors.ts';
import { drawId } from '../ids.ts';
import { drawAdminKey, redactAdminKey } from '../keys/adminKey.ts';
import { type AdminKeyRecord, MAX_ADMIN_KEYS } from '../keys/adminKeys.ts';
import { hashKey } from '../keys/apiKey.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { readJson } from '../requestBody.ts';
import { MAX_LIFE_SECONDS } from './apiKeys.ts';
import { pageOf, seconds, secondsOrNull, slicePage } from './lists.ts';

export const createAdminKeyBody = z.strictObject({
  name: z.string().min(1).max(256),
  expires_in_seconds: z.int().min(1).max(MAX_LIFE_SECONDS).nullish(),
});

function keyBody({ id, name, redacted, createdAtMs, lastUsedAtMs, expiresAtMs }: AdminKeyRecord) {
  return {
    object: 'organization.admin_api_key' as const,
    id,
    name,
    redacted_value: redacted,
    created_at: seconds(createdAtMs),
    last_used_at: secondsOrNull(lastUsedAtMs),
    expires_at: secondsOrNull(expiresAtMs),
    owner: { type: 'service_account', object: 'organization.service_account', id, name, role: 'owner' },
  };
}

/** Below /v1/organization/admin_api_keys; the admin key is checked already. */
export function adminKeyRoutes({ adminKeys, clock, random, keyring, log, settings }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post('/', async (c) => {
    const { name, expires_in_seconds } = await readJson(c.req.raw, createAdminKeyBody, settings.maxBodyBytes);
    const value = drawAdminKey(random);
    const createdAtMs = clock.now();
    const record: AdminKeyRecord = {
      ...{ id: drawId('key', random), name, redacted: redactAdminKey(value), createdAtMs, lastUsedAtMs: null },
      expiresAtMs: expires_in_seconds ? createdAtMs + expires_in_seconds * 1000 : null,
    };
    if (!(await adminKeys.add(record, hashKey(value, keyring.newestPepper))))
      throw invalidRequest(`There are ${MAX_ADMIN_KEYS} admin keys already. Delete one that is not used.`, null);
    log.info('admin_key_created', { key: record.id });
    return c.json({ ...keyBody(record), value });
  });
  app.get('/', async (c) => c.json(slicePage((await adminKeys.list()).map(keyBody), pageOf(c.req.query()))));
  app.get('/:key', async (c) => {
    const record = (await adminKeys.list()).find(({ id }) => id === c.req.param('key'));
    if (!record) throw notFound('This admin key');
    return c.json(keyBody(record));
  });
  app.delete('/:key', async (c) => {
    const id = c.req.param('key');
    if (!(await adminKeys.delete(id))) throw notFound('This admin key');
    log.info('admin_key_deleted', { key: id });
    return c.json({ object: 'organization.admin_api_key.deleted', id, deleted: true });
  });
  return app;
}
