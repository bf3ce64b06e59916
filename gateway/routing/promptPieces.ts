// A prompt as routers compare it. The gateway has no tokeniser and no template, so a piece is so many characters of what a template would be
// given; its digest goes over everything before it, too, and begins with who may share it: what two tenants send alike is not alike here.
import { hash } from 'node:crypto';
import type { ChatMessage, CompletionRequest } from '../../pool/wire/inference.ts';
import { contentText, promptsOf } from '../../pool/wire/inference.ts';
import type { ProjectService } from '../directory/port.ts';
import type { KeyPresented } from '../ledger/port.ts';
import type { Inference } from '../relay/poolClient.ts';
import type { Pieces } from './policy.ts';

/** UTF-16 units of a text, or token ids, of a piece: about 128 tokens. What is left at the end is in none, as a block that is not full. */
const PIECE_TEXT = 512;
const PIECE_TOKENS = 128;
/** Pieces of one prompt: beyond 128 k tokens all pools count alike. */
const MAX_PIECES = 1024;

/**
 * Requests of one scope may find each other's prompts in a pool's cache: as serviceGrant.ts narrows them, without deriving the namespace. null: nothing
 * may be shared.
 */
export function sharingScope(
  { policy, cacheSalt }: ProjectService,
  { tenant, hashes }: KeyPresented,
  { cache, cache_salt }: Inference['request'],
): string | null {
  if (cacheSalt === null || policy.cacheScope === 'none' || cache === false) return null;
  const key = policy.cacheScope === 'api_key' ? hashes[0]?.hash : undefined;
  return JSON.stringify([tenant, key ?? null, cache_salt ?? null]);
}

/** `scope`: who may share; null: nobody, so nothing is compared. */
export function promptPieces({ kind, request }: Inference, scope: string | null): Pieces {
  if (scope === null) return [];
  const root = digest(`${scope}\n${request.model}`);
  return kind === 'chat' ? textPieces(root, textOf(request.messages)) : completionPieces(root, request.prompt);
}

/** The first of several prompts decides. */
function completionPieces(root: string, prompt: CompletionRequest['prompt']): Pieces {
  const [first = ''] = promptsOf(prompt);
  if (typeof first === 'string') return textPieces(root, first);
  return chain(root, first.length / PIECE_TOKENS, (i) =>
    first.slice(i * PIECE_TOKENS, (i + 1) * PIECE_TOKENS).join(' '),
  );
}

const textPieces = (root: string, text: string): Pieces =>
  chain(root, text.length / PIECE_TEXT, (i) => text.slice(i * PIECE_TEXT, (i + 1) * PIECE_TEXT));

/** Messages one after another, each with who says it; the separators are in no text that means anything to a template. */
const textOf = (messages: readonly ChatMessage[]): string =>
  messages.map(({ role, name, content }) => `\u0001${role}\u0002${name ?? ''}\u0003${contentText(content)}`).join('');

function chain(root: string, count: number, piece: (i: number) => string): Pieces {
  const digests: string[] = [];
  let above = root;
  for (let i = 0; i < Math.min(MAX_PIECES, Math.floor(count)); i++) {
    above = digest(above + piece(i));
    digests.push(above);
  }
  return digests;
}

/** 128 bits are enough: a collision costs a detour, not an answer. */
const digest = (text: string): string => hash('sha256', text, 'base64url').slice(0, 22);
