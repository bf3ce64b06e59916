// Every route of the gateway as one row: who may call it, what it takes, what it answers. A row points at the very schemas that the
// route parses with; a test compares the rows with the app's routes and its real answers with the answers named here.
import type { z } from 'zod';
import { HEARTBEAT_PATH } from '../../pool/wire/heartbeat.ts';
import { chatRequest, completionRequest } from '../../pool/wire/inference.ts';
import { prefixDeclaration } from '../../pool/wire/publicPrefixes.ts';
import { createAdminKeyBody } from '../routes/adminKeys.ts';
import { createServiceAccountBody, rotateApiKeyBody, updateApiKeyBody } from '../routes/apiKeys.ts';
import { auditQuery } from '../routes/auditLogs.ts';
import { costQuery } from '../routes/costs.ts';
import { pageQuery } from '../routes/lists.ts';
import { enrolPoolBody } from '../routes/pools.ts';
import { createPriceBody, priceQuery } from '../routes/prices.ts';
import { projectBodySchema, projectQuery } from '../routes/projects.ts';
import { tokenQuotasBody } from '../routes/quotas.ts';
import { rateLimitBody } from '../routes/rateLimits.ts';
import { servicePolicyBody } from '../routes/servicePolicy.ts';
import { spendLimitBody } from '../routes/spendLimit.ts';
import { exportQuery, usageQuery } from '../routes/usage.ts';
import * as administration from './administrationAnswers.ts';
import * as inference from './inferenceAnswers.ts';
import * as limits from './limitAnswers.ts';
import * as reports from './reportAnswers.ts';

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';
export type Caller = 'anyone' | 'project' | 'admin';

export interface Operation {
  method: Method;
  /** As the app's router has it. */
  path: string;
  /** Names the operation in generated clients. */
  id: string;
  tag: string;
  summary: string;
  caller: Caller;
  query?: z.ZodObject;
  body?: z.ZodType;
  /** JSON; none where the answer is text only. */
  answer?: z.ZodType;
  /** One event of the stream, where the body may ask for one. */
  event?: z.ZodType;
  /** Takes an Idempotency-Key. */
  keyed?: true;
  /** Media types of an answer that is text. */
  texts?: readonly string[];
  /** Beyond those that follow from caller, query, body and path. */
  errors?: readonly number[];
}

/** Statuses of a request that goes to a pool: no such model, refused by a limit, no pool. */
const AT_A_POOL = [403, 404, 429, 503] as const;

type Row = Omit<Operation, 'tag' | 'caller' | 'method' | 'path' | 'id' | 'summary'>;
const under =
  (tag: string, caller: Caller, base: string) =>
  (method: Method, path: string, id: string, summary: string, row: Row): Operation => ({
    ...{ method, path: `${base}${path}`, id, tag, summary, caller, ...row },
  });
const ORGANIZATION = '/v1/organization';
const ask = under('Inference', 'project', '/v1');
const projects = under('Projects', 'admin', `${ORGANIZATION}/projects`);
const keys = under('Keys', 'admin', `${ORGANIZATION}/projects/:project`);
const bounds = under('Limits', 'admin', `${ORGANIZATION}/projects/:project`);
const prices = under('Prices', 'admin', `${ORGANIZATION}/prices`);
const prefixes = under('Public prefixes', 'admin', `${ORGANIZATION}/public_prefixes`);
const pools = under('Pools', 'admin', `${ORGANIZATION}/pools`);
const adminKeys = under('Administrators', 'admin', ORGANIZATION);
const reported = under('Usage and costs', 'admin', ORGANIZATION);
const open = under('Operation', 'anyone', '');
const guarded = under('Operation', 'admin', '');

const INFERENCE: readonly Operation[] = [
  ask(
    'POST',
    '/chat/completions',
    'createChatCompletion',
    'An answer to a chat, whole or as a stream that ends with [DONE]',
    {
      ...{
        body: chatRequest,
        answer: inference.chatCompletion,
        event: inference.chatCompletionChunk,
        errors: AT_A_POOL,
        keyed: true,
      },
    },
  ),
  ask('POST', '/completions', 'createCompletion', 'What follows a text, or token ids, or several of them', {
    ...{ body: completionRequest, answer: inference.completion, event: inference.completionChunk },
    ...{ errors: AT_A_POOL, keyed: true },
  }),
  ask('GET', '/models', 'listModels', 'The models that the key may use', { answer: inference.modelList }),
  ask('GET', '/models/:id{.+}', 'getModel', 'One model that the key may use', { answer: inference.model }),
  ask('GET', '/key', 'getOwnKey', "The caller's own key, and where its limits stand", { answer: inference.ownKey }),
];

const { project, projectList, serviceAccountCreated, serviceAccount, serviceAccountList } = administration;
const { adminKey, adminKeyCreated, adminKeyList, adminKeyDeleted, apiKey, apiKeyList } = administration;

const ADMINISTRATION: readonly Operation[] = [
  projects('POST', '', 'createProject', 'Makes a project: a tenant', { body: projectBodySchema, answer: project }),
  projects('GET', '', 'listProjects', 'Projects, the oldest first', { query: projectQuery, answer: projectList }),
  projects('GET', '/:project', 'getProject', 'One project', { answer: project }),
  projects('POST', '/:project', 'updateProject', 'Renames a project', { body: projectBodySchema, answer: project }),
  projects('POST', '/:project/archive', 'archiveProject', 'Refuses all keys of a project for good', {
    answer: project,
  }),
  keys('POST', '/service_accounts', 'createServiceAccount', 'Makes a service account with its key, shown once', {
    ...{ body: createServiceAccountBody, answer: serviceAccountCreated },
  }),
  keys('GET', '/service_accounts', 'listServiceAccounts', 'Service accounts of a project', {
    ...{ query: pageQuery, answer: serviceAccountList },
  }),
  keys('GET', '/service_accounts/:account', 'getServiceAccount', 'One service account', { answer: serviceAccount }),
  keys('DELETE', '/service_accounts/:account', 'deleteServiceAccount', 'Deletes an account and revokes its keys', {
    answer: administration.serviceAccountDeleted,
  }),
  keys('GET', '/api_keys', 'listApiKeys', 'Keys of a project, redacted', { query: pageQuery, answer: apiKeyList }),
  keys('GET', '/api_keys/:key', 'getApiKey', 'One key, redacted', { answer: apiKey }),
  keys('POST', '/api_keys/:key', 'updateApiKey', 'Changes what the body names of a key', {
    ...{ body: updateApiKeyBody, answer: apiKey },
  }),
  keys('POST', '/api_keys/:key/rotate', 'rotateApiKey', 'Gives a key another value, shown once', {
    ...{ body: rotateApiKeyBody, answer: administration.apiKeyRotated },
  }),
  keys('DELETE', '/api_keys/:key', 'deleteApiKey', 'Revokes a key', { answer: administration.apiKeyDeleted }),
  keys('GET', '/key_stragglers', 'listKeyStragglers', 'Keys not used since the newest pepper came', {
    answer: administration.keyStragglers,
  }),
  bounds('GET', '/token_quotas', 'getTokenQuotas', 'Hard limits in tokens', { answer: limits.tokenQuotaList }),
  bounds('PUT', '/token_quotas', 'putTokenQuotas', 'Replaces all token quotas of a project', {
    ...{ body: tokenQuotasBody, answer: limits.tokenQuotaList },
  }),
  bounds('GET', '/rate_limits', 'listRateLimits', 'Rate limits, one entry per model', {
    ...{ query: pageQuery, answer: limits.rateLimitList },
  }),
  bounds('POST', '/rate_limits/:id{.+}', 'updateRateLimit', 'Changes what the body names; null takes a limit away', {
    ...{ body: rateLimitBody, answer: limits.rateLimit },
  }),
  bounds('GET', '/spend_limit', 'getSpendLimit', 'The most that a project may spend in a month', {
    answer: limits.spendLimit,
  }),
  bounds('POST', '/spend_limit', 'putSpendLimit', 'Sets the spend limit', {
    ...{ body: spendLimitBody, answer: limits.spendLimit },
  }),
  bounds('DELETE', '/spend_limit', 'deleteSpendLimit', 'Takes the spend limit away', {
    ...{ answer: limits.spendLimitDeleted, errors: [400] },
  }),
  bounds('GET', '/service_policy', 'getServicePolicy', "A project's weight, cache and models", {
    answer: administration.servicePolicy,
  }),
  bounds('PUT', '/service_policy', 'putServicePolicy', 'Replaces the service policy', {
    ...{ body: servicePolicyBody, answer: administration.servicePolicy },
  }),
  prices('GET', '', 'listPrices', 'Versions of prices', { query: priceQuery, answer: administration.priceList }),
  prices('POST', '', 'createPrice', 'A new version, from now or later on', {
    ...{ body: createPriceBody, answer: administration.price },
  }),
  prefixes(
    'POST',
    '',
    'createPublicPrefix',
    'Declares the beginning of prompts that all projects may hit in the cache',
    {
      ...{ body: prefixDeclaration, answer: administration.publicPrefix, errors: [404, 503] },
    },
  ),
  prefixes('GET', '', 'listPublicPrefixes', 'What is declared, and how far pools have it', {
    ...{ query: pageQuery, answer: administration.publicPrefixList },
  }),
  prefixes('DELETE', '/:id', 'deletePublicPrefix', 'Withdraws a public prefix', {
    ...{ answer: administration.publicPrefixDeleted, errors: [400] },
  }),
  pools('POST', '', 'enrolPool', 'Lets a pool announce itself; its key is shown once', {
    ...{ body: enrolPoolBody, answer: administration.poolEnrolled },
  }),
  pools('GET', '', 'listPools', 'Pools with their states', { query: pageQuery, answer: administration.poolList }),
  pools('GET', '/:id', 'getPool', 'One pool', { answer: administration.pool }),
  pools('DELETE', '/:id', 'removePool', 'A pool is no longer heard, nor asked', {
    ...{ answer: administration.poolDeleted, errors: [400] },
  }),
  adminKeys('POST', '/admin_api_keys', 'createAdminKey', 'Makes an admin key, shown once', {
    ...{ body: createAdminKeyBody, answer: adminKeyCreated },
  }),
  adminKeys('GET', '/admin_api_keys', 'listAdminKeys', 'Admin keys, redacted', {
    query: pageQuery,
    answer: adminKeyList,
  }),
  adminKeys('GET', '/admin_api_keys/:key', 'getAdminKey', 'One admin key, redacted', { answer: adminKey }),
  adminKeys('DELETE', '/admin_api_keys/:key', 'deleteAdminKey', 'Revokes an admin key', { answer: adminKeyDeleted }),
  adminKeys('GET', '/audit_logs', 'listAuditLogs', 'What administrators did, the newest first', {
    ...{ query: auditQuery, answer: reports.auditEventList },
  }),
  reported('GET', '/usage/completions', 'getUsage', 'Use in buckets of time', {
    ...{ query: usageQuery, answer: reports.usagePage },
  }),
  reported('GET', '/costs', 'getCosts', 'Costs by day', { query: costQuery, answer: reports.costPage }),
  reported('GET', '/usage/export', 'exportUsage', 'One row per request, or FOCUS 1.2: the same bytes each time', {
    ...{ query: exportQuery, texts: ['application/jsonl', 'text/csv'] },
  }),
  reported('GET', '/usage/reconciliation', 'reconcile', "The pools' journals against the bill", {
    answer: reports.reconciliation,
  }),
];

const OPERATION: readonly Operation[] = [
  open('GET', '/healthz', 'getHealth', 'Whether the gateway lives', { answer: reports.alive }),
  open('GET', '/readyz', 'getReadiness', 'Whether every model has a ready pool', {
    answer: reports.ready,
    errors: [503],
  }),
  open('POST', HEARTBEAT_PATH, 'announcePool', 'For pools: they are there, and how; signed with their own keys', {
    ...{ texts: ['application/json'], errors: [400, 401, 413] },
  }),
  guarded('GET', '/metrics', 'getMetrics', "Figures in Prometheus' text format", { texts: ['text/plain'] }),
  open('GET', '/openapi.json', 'getDocument', 'This document', { texts: ['application/json'] }),
  open('GET', '/docs', 'getReference', 'This document as a page', { texts: ['text/html'] }),
];

export const OPERATIONS: readonly Operation[] = [...INFERENCE, ...ADMINISTRATION, ...OPERATION];
