// …/service_accounts and …/api_keys: a service account is created with a key, whose value this one answer shows and nothing keeps.
// Deleting a key revokes it with the next request; deleting an account deletes its keys.
import { Hono } from 'hono';
import { z } from 'zod';
import type { ServiceAccount } from '../directory/port.ts';
import { notFound } from '../errors.ts';
import { drawId } from '../ids.ts';
import { drawApiKey, hashKey, redactKey } from '../keys/apiKey.ts';
import type { KeyRecord } from '../ledger/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { readJson } from '../requestBody.ts';
import { pageOf, seconds, secondsOrNull, slicePage } from './lists.ts';
import { activeProject, knownProject } from './projects.ts';

const createBody = z.strictObject({
  name: z.string().min(1).max(256),
  expires_in_seconds: z
    .int()
    .min(1)
    .max(10 * 366 * 86_400)
    .nullish(),
});

type KeyPorts = Pick<GatewayPorts, 'directory' | 'ledger' | 'clock' | 'random' | 'keyring'>;

export interface CreatedKey {
  account: ServiceAccount;
  key: KeyRecord;
  /** Shown once. */
  value: string;
}

export async function createServiceAccount(
  { directory, ledger, clock, random, keyring }: KeyPorts,
  projectId: string,
  name: string,
  expiresInSeconds: number | null,
): Promise<CreatedKey> {
  const createdAtMs = clock.now();
  const account: ServiceAccount = { id: drawId('svc_acct', random), projectId, name, createdAtMs };
  const value = drawApiKey(projectId, keyring.tagSecret, random);
  const key: KeyRecord = {
    id: drawId('key', random),
    tenant: projectId,
    serviceAccountId: account.id,
    name,
    redacted: redactKey(value),
    createdAtMs,
    lastUsedAtMs: null,
    expiresAtMs: expiresInSeconds === null ? null : createdAtMs + expiresInSeconds * 1000,
  };
  await directory.createServiceAccount(account);
  await ledger.addKey(key, hashKey(value, keyring.newestPepper));
  return { account, key, value };
}

function accountBody({ id, name, createdAtMs }: ServiceAccount) {
  return { object: 'organization.project.service_account', id, name, role: 'member', created_at: seconds(createdAtMs) };
}

function keyBody(key: KeyRecord, account: ServiceAccount | undefined) {
  return {
    object: 'organization.project.api_key',
    id: key.id,
    name: key.name,
    redacted_value: key.redacted,
    created_at: seconds(key.createdAtMs),
    last_used_at: secondsOrNull(key.lastUsedAtMs),
    expires_at: secondsOrNull(key.expiresAtMs),
    owner: { type: 'service_account', ...(account && { service_account: accountBody(account) }) },
    owner_project_access: 'active',
  };
}

/** Below /v1/organization/projects; the admin key is checked already. */
export function apiKeyRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { directory, ledger, log } = ports;

  app.post('/:project/service_accounts', async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const body = await readJson(c.req.raw, createBody, ports.settings.maxBodyBytes);
    const { account, key, value } = await createServiceAccount(
      ports,
      project.id,
      body.name,
      body.expires_in_seconds ?? null,
    );
    log.info('key_created', { project: project.id, key: key.id });
    const { id, name, createdAtMs, expiresAtMs } = key;
    const object = 'organization.project.service_account.api_key';
    const shown = { object, id, name, value, created_at: seconds(createdAtMs), expires_at: secondsOrNull(expiresAtMs) };
    return c.json({ ...accountBody(account), api_key: shown });
  });
  app.get('/:project/service_accounts', async (c) => {
    const project = await knownProject(ports, c.req.param('project'));
    return c.json(slicePage((await directory.serviceAccounts(project.id)).map(accountBody), pageOf(c.req.query())));
  });
  app.get('/:project/service_accounts/:account', async (c) => {
    const accounts = await directory.serviceAccounts(c.req.param('project'));
    const account = accounts.find(({ id }) => id === c.req.param('account'));
    if (!account) throw notFound('This service account');
    return c.json(accountBody(account));
  });
  app.delete('/:project/service_accounts/:account', async (c) => {
    const project = c.req.param('project');
    const id = c.req.param('account');
    for (const key of await ledger.keys(project))
      if (key.serviceAccountId === id) await ledger.deleteKey(project, key.id);
    if (!(await directory.deleteServiceAccount(project, id))) throw notFound('This service account');
    log.info('service_account_deleted', { project, account: id });
    return c.json({ object: 'organization.project.service_account.deleted', id, deleted: true });
  });

  const keysOf = async (projectId: string) => {
    const project = await knownProject(ports, projectId);
    const accounts = await directory.serviceAccounts(project.id);
    const keys = await ledger.keys(project.id);
    return keys.map((key) =>
      keyBody(
        key,
        accounts.find(({ id }) => id === key.serviceAccountId),
      ),
    );
  };
  app.get('/:project/api_keys', async (c) =>
    c.json(slicePage(await keysOf(c.req.param('project')), pageOf(c.req.query()))),
  );
  app.get('/:project/api_keys/:key', async (c) => {
    const key = (await keysOf(c.req.param('project'))).find(({ id }) => id === c.req.param('key'));
    if (!key) throw notFound('This API key');
    return c.json(key);
  });
  app.delete('/:project/api_keys/:key', async (c) => {
    const project = c.req.param('project');
    const id = c.req.param('key');
    if (!(await ledger.deleteKey(project, id))) throw notFound('This API key');
    log.info('key_deleted', { project, key: id });
    return c.json({ object: 'organization.project.api_key.deleted', id, deleted: true });
  });
  return app;
}
