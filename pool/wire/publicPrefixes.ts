// Prefixes that the operator declares public: whoever's prompt begins with one shares its cached blocks with everybody. The gateway
// keeps them and pushes the whole set to each pool, which renders them with its own tokeniser and template, so that their ids are
// those that requests have. Pushing a set again changes nothing; the digest in the pool's status tells which one it has.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { chatMessage, contentText } from './inference.ts';
import { tokenIds } from './lists.ts';

export const PREFIX_LIMITS = {
  /** Of all models together. More than a few dozen are a sign that requests, not the operator, choose them. */
  prefixes: 256,
  /** JSON of one declaration: some 60,000 tokens of text. */
  declarationBytes: 256 * 1024,
  /** JSON of all together: one push. */
  setBytes: 4 * 1024 * 1024,
  messages: 64,
} as const;

const declaration = z.strictObject({
  model: z.string().min(1).max(256).describe('Model whose prompts it is a prefix of.'),
  text: z.string().min(1).optional().describe('Beginning of raw completion prompts. One of text, messages, token_ids.'),
  messages: z
    .array(chatMessage)
    .min(1)
    .max(PREFIX_LIMITS.messages)
    .optional()
    .describe('First messages of chats, such as a system message.'),
  token_ids: tokenIds.optional().describe('Beginning of prompts, as token ids.'),
});
export type PrefixDeclaration = z.output<typeof declaration>;

export const prefixDeclaration = declaration
  .refine(
    ({ text, messages, token_ids }) => [text, messages, token_ids].filter((one) => one !== undefined).length === 1,
    { path: ['text'], message: 'give exactly one of text, messages and token_ids' },
  )
  .refine((value) => declarationBytes(value) <= PREFIX_LIMITS.declarationBytes, {
    path: ['text'],
    message: `longer than ${PREFIX_LIMITS.declarationBytes} bytes`,
  });

export function declarationBytes(value: PrefixDeclaration): number {
  return Buffer.byteLength(JSON.stringify(value), 'utf8');
}

export const publicPrefix = declaration.extend({ id: z.string().min(1).max(128) });
export type PublicPrefix = z.output<typeof publicPrefix>;

/** Body of PUT /pool/public_prefixes: all of them, and the key that seals their blocks outside the pool's process. */
export const prefixSet = z.strictObject({
  seal: z.string().regex(/^[0-9a-f]{64}$/),
  prefixes: z.array(publicPrefix).max(PREFIX_LIMITS.prefixes),
});
export type PrefixSet = z.output<typeof prefixSet>;

/** What a declaration says, whatever the order of its keys: equal texts share equal prefixes. */
export function contentOf({ model, text, messages, token_ids }: PrefixDeclaration): string {
  const said = messages?.map(({ role, content, name }) => [role, contentText(content), name ?? null]);
  return JSON.stringify([model, text ?? null, said ?? null, token_ids ?? null]);
}

/** Names a set: 32 hex digits. */
export function digestOfSet({ seal, prefixes }: PrefixSet): string {
  const declared = prefixes.map((prefix) => [prefix.id, contentOf(prefix)]);
  return createHash('sha256')
    .update(JSON.stringify([seal, declared]))
    .digest('hex')
    .slice(0, 32);
}

/** What became of one prefix at a pool. `tokens`: what is shared of it, whole blocks only are. */
export const prefixReport = z.object({
  id: z.string(),
  state: z.enum(['declared', 'refused']),
  tokens: z.int().min(0),
  /** Why it was refused. */
  reason: z.string().optional(),
});
export type PrefixReport = z.output<typeof prefixReport>;

/** Answer of PUT /pool/public_prefixes. */
export const prefixSetAnswer = z.object({ digest: z.string(), prefixes: z.array(prefixReport) });

/** Answer of POST /pool/public_prefixes/render: what a declaration would share. */
export const renderAnswer = z.object({ tokens: z.int().min(0) });
