// …/service_accounts and …/api_keys: a service account is created with a key, whose value this one answer shows and nothing keeps.
// Rotating gives the same key another value, and the old one a time of grace. Deleting a key revokes it with the next request; deleting an
// account deletes its keys.
import { Hono } from 'hono';
import { z } from 'zod';
import type { ServiceAccount } from '../directory/port.ts';
import { notFound } from '../errors.ts';
import { drawId } from '../ids.ts';
import { drawApiKey, hashKey, redactKey } from '../keys/apiKey.ts';
import type { LimitState } from '../ledger/limits.ts';
import type { KeyRecord } from '../ledger/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { readJson } from '../requestBody.ts';
import { keyLimits, limitBody, modelNames, putLimits } from './limits.ts';
import { pageOf, seconds, secondsOrNull, slicePage } from './lists.ts';
import { activeProject, knownProject } from './projects.ts';

export const MAX_LIFE_SECONDS = 10 * 366 * 86_400;
/** Longer than this, a rotation is no rotation. */
const MAX_GRACE_SECONDS = 30 * 86_400;

const keyName = z.string().min(1).max(256);
const expiresIn = z.int().min(1).max(MAX_LIFE_SECONDS).nullish();
export const createServiceAccountBody = z.strictObject({
  name: keyName,
  expires_in_seconds: expiresIn,
  allowed_models: modelNames.nullish(),
  limits: keyLimits.optional(),
});
export const updateApiKeyBody = createServiceAccountBody.partial();
export const rotateApiKeyBody = z.strictObject({ grace_seconds: z.int().min(0).max(MAX_GRACE_SECONDS).default(0) });

/** The set of a key's own limits. */
const KEY_LIMITS = 'api_key';

type KeyPorts = Pick<GatewayPorts, 'directory' | 'ledger' | 'clock' | 'random' | 'keyring'>;

export interface CreatedKey {
  account: ServiceAccount;
  key: KeyRecord;
  /** Shown once. */
  value: string;
}

export async function createServiceAccount(
  ports: KeyPorts,
  projectId: string,
  { name, expires_in_seconds, allowed_models, limits }: z.output<typeof createServiceAccountBody>,
): Promise<CreatedKey> {
  const { directory, ledger, clock, random, keyring } = ports;
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
    expiresAtMs: expiryOf(createdAtMs, expires_in_seconds),
    models: allowed_models ?? null,
  };
  await directory.createServiceAccount(account);
  // Limits first: no request of the key is ever without them.
  if (limits) await putLimits(ports, projectId, [{ keyId: key.id, set: KEY_LIMITS, rules: limits }]);
  await ledger.addKey(key, hashKey(value, keyring.newestPepper));
  return { account, key, value };
}

function expiryOf(nowMs: number, inSeconds: number | null | undefined): number | null {
  return inSeconds === null || inSeconds === undefined ? null : nowMs + inSeconds * 1000;
}

function accountBody({ id, name, createdAtMs }: ServiceAccount) {
  return { object: 'organization.project.service_account', id, name, role: 'member', created_at: seconds(createdAtMs) };
}

function keyBody(key: KeyRecord, account: ServiceAccount | undefined, limits: readonly LimitState[]) {
  return {
    object: 'organization.project.api_key',
    id: key.id,
    name: key.name,
    redacted_value: key.redacted,
    created_at: seconds(key.createdAtMs),
    last_used_at: secondsOrNull(key.lastUsedAtMs),
    expires_at: secondsOrNull(key.expiresAtMs),
    allowed_models: key.models,
    limits: limits.filter(({ keyId }) => keyId === key.id).map(limitBody),
    owner: { type: 'service_account', ...(account && { service_account: accountBody(account) }) },
    owner_project_access: 'active',
  };
}

/** Below /v1/organization/projects; the admin key is checked already. */
export function apiKeyRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { directory, ledger, clock, log } = ports;

  app.post('/:project/service_accounts', async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const body = await readJson(c.req.raw, createServiceAccountBody, ports.settings.maxBodyBytes);
    const { account, key, value } = await createServiceAccount(ports, project.id, body);
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
    const limits = await ledger.limits(project.id, clock.now());
    return (await ledger.keys(project.id)).map((key) => {
      const account = accounts.find(({ id }) => id === key.serviceAccountId);
      return keyBody(key, account, limits);
    });
  };
  app.get('/:project/api_keys', async (c) =>
    c.json(slicePage(await keysOf(c.req.param('project')), pageOf(c.req.query()))),
  );
  const keyOf = async (project: string, keyId: string) => {
    const key = (await keysOf(project)).find(({ id }) => id === keyId);
    if (!key) throw notFound('This API key');
    return key;
  };
  app.get('/:project/api_keys/:key', async (c) => c.json(await keyOf(c.req.param('project'), c.req.param('key'))));
  app.post('/:project/api_keys/:key', async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const keyId = c.req.param('key');
    const body = await readJson(c.req.raw, updateApiKeyBody, ports.settings.maxBodyBytes);
    const { name, expires_in_seconds, allowed_models, limits } = body;
    const change = {
      ...(name !== undefined && { name }),
      ...(expires_in_seconds !== undefined && { expiresAtMs: expiryOf(clock.now(), expires_in_seconds) }),
      ...(allowed_models !== undefined && { models: allowed_models }),
    };
    if (!(await ledger.changeKey(project.id, keyId, change))) throw notFound('This API key');
    if (limits) await putLimits(ports, project.id, [{ keyId, set: KEY_LIMITS, rules: limits }]);
    log.info('key_updated', { project: project.id, key: keyId });
    return c.json(await keyOf(project.id, keyId));
  });
  app.post('/:project/api_keys/:key/rotate', async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const keyId = c.req.param('key');
    const { grace_seconds } = await readJson(c.req.raw, rotateApiKeyBody, ports.settings.maxBodyBytes);
    const value = drawApiKey(project.id, ports.keyring.tagSecret, ports.random);
    const oldGoodUntilMs = clock.now() + grace_seconds * 1000;
    const hash = hashKey(value, ports.keyring.newestPepper);
    const rotation = { tenant: project.id, keyId, hash, redacted: redactKey(value), oldGoodUntilMs };
    if (!(await ledger.rotateKey(rotation))) throw notFound('This API key');
    log.info('key_rotated', { project: project.id, key: keyId });
    return c.json({
      ...(await keyOf(project.id, keyId)),
      value,
      previous_value_expires_at: seconds(oldGoodUntilMs),
    });
  });
  app.get('/:project/key_stragglers', async (c) => {
    const project = await knownProject(ports, c.req.param('project'));
    const { version } = ports.keyring.newestPepper;
    const data = (await ledger.stragglers(project.id, version)).map(({ keyId, pepperVersion, lastUsedAtMs }) => ({
      ...{ object: 'key_straggler', id: keyId, pepper_version: pepperVersion },
      last_used_at: secondsOrNull(lastUsedAtMs),
    }));
    return c.json({ object: 'list', newest_pepper_version: version, data });
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
