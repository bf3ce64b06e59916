// Shapes that the document names, so that they stand there once and generated clients have a type of that name.
import type { z } from 'zod';
import * as administration from './administrationAnswers.ts';
import * as inference from './inferenceAnswers.ts';
import * as limits from './limitAnswers.ts';
import * as reports from './reportAnswers.ts';

export const NAMED: Readonly<Record<string, z.ZodType>> = {
  Error: inference.errorAnswer,
  Usage: inference.usageAnswer,
  ChatCompletion: inference.chatCompletion,
  ChatCompletionChunk: inference.chatCompletionChunk,
  Completion: inference.completion,
  CompletionChunk: inference.completionChunk,
  Model: inference.model,
  OwnKey: inference.ownKey,
  Limit: limits.limitAnswer,
  TokenQuota: limits.tokenQuota,
  RateLimit: limits.rateLimit,
  SpendLimit: limits.spendLimit,
  Project: administration.project,
  ServiceAccount: administration.serviceAccount,
  ServiceAccountCreated: administration.serviceAccountCreated,
  ApiKey: administration.apiKey,
  ApiKeyRotated: administration.apiKeyRotated,
  ServicePolicy: administration.servicePolicy,
  Price: administration.price,
  PublicPrefix: administration.publicPrefix,
  AdminKey: administration.adminKey,
  AuditEvent: reports.auditEvent,
  UsagePage: reports.usagePage,
  CostPage: reports.costPage,
  Reconciliation: reports.reconciliation,
};
