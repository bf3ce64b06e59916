// What a pool tells routers of its prefix cache: which blocks it has. A block's id is a digest of its namespace and of all tokens up to
// its end, so whoever knows the namespace, which is not guessable, can compute the ids of a prompt and compare; whoever doesn't learns
// nothing of what is cached. Tokens are told in the clear only to a request that is signed for their namespace.
//
//   all_cleared ─▶ stored … stored ─▶ caught_up ─▶ stored | removed …       what is missed: stored | removed … ─▶ caught_up ─▶ …
import { hash } from 'node:crypto';
import { z } from 'zod';

/** Tokens per block. */
const BLOCK_TOKENS = 16;

/** Most blocks that one event names. */
export const MAX_EVENT_BLOCKS = 64;

const blockId = z.string().regex(/^[0-9a-f]{32}$/);

const about = {
  /** Ascending by one; a filtered stream leaves some out. -1: part of what was there, which can't be gone on from before it is whole. */
  sequence: z.int().min(-1),
  /** All that the engine serves: its blocks are for each of them. */
  models: z.array(z.string()),
};

export const kvEvent = z.discriminatedUnion('type', [
  /** Forget everything: what is there follows, as stored events. */
  z.object({
    type: z.literal('all_cleared'),
    /** Another one: the pool started again, and its sequence with it. */
    epoch: z.string(),
  }),
  /** All that was there, or was missed, has been told: as of this event. */
  z.object({ type: z.literal('caught_up'), sequence: z.int().min(0) }),
  z.object({
    type: z.literal('stored'),
    ...about,
    /** Names the namespace to whoever knows it. */
    scope: z.string(),
    /** The block that ids[0] continues, maybe of another scope (a public prefix); null: none. Each further id continues the one before. */
    parent: blockId.nullable(),
    ids: z.array(blockId).min(1),
    /** [ids.length × 16]: only on a stream of this scope that asked for them. */
    token_ids: z.array(z.int()).optional(),
  }),
  z.object({ type: z.literal('removed'), ...about, scope: z.string(), ids: z.array(blockId).min(1) }),
]);
export type KvEvent = z.infer<typeof kvEvent>;

/** The secret part of a namespace's ids. `extra`: what else than tokens its KV depends on. */
export function scopeKey(namespace: string, extra = ''): Buffer {
  return hash('sha256', JSON.stringify(['hearth-kv-scope-1', namespace, extra]), 'buffer');
}

/** 16 hex digits. */
export function scopeName(key: Uint8Array): string {
  return hash('sha256', Buffer.concat([Buffer.from('name'), key]), 'hex').slice(0, 16);
}

/** Id of the block with these 16 tokens after `parent`. */
export function nextBlockId(key: Uint8Array, parent: string | null, tokens: Int32Array): string {
  const bytes = Buffer.alloc(32 + 16 + BLOCK_TOKENS * 4);
  bytes.set(key);
  if (parent !== null) bytes.write(parent, 32, 'hex');
  for (let i = 0; i < BLOCK_TOKENS; i++) bytes.writeInt32LE(tokens[i] ?? 0, 48 + 4 * i);
  return hash('sha256', bytes, 'hex').slice(0, 32);
}

/** Ids of the whole blocks of `tokens` in one namespace, after `parent`: what a router looks for. */
export function blockIds(key: Uint8Array, tokens: Int32Array, parent: string | null = null): string[] {
  const ids: string[] = [];
  for (let start = 0; start + BLOCK_TOKENS <= tokens.length; start += BLOCK_TOKENS)
    ids.push(nextBlockId(key, ids.at(-1) ?? parent, tokens.subarray(start, start + BLOCK_TOKENS)));
  return ids;
}
