// How many tokens a chat template adds, at most, to the bytes of the messages: the gateway reserves on it without a tokeniser.
//
// Measured on the template itself, over role sequences that cover each role after each pair of others. What is counted holds for any
// content: a stretch between control tokens that touches no content has its exact tokens; one that touches content has at most as
// many tokens as bytes, the template's and the content's. The claim is kept at every rendering: a prompt above it is refused.
import { ChatTemplateError } from './errors.ts';

export interface TemplateMessage {
  role: string;
  content: string;
  name?: string;
}

/** A rendered prompt cut at control tokens: their ids, and the plain text between them. */
export type Segment = number | string;

export interface TemplateOverhead {
  tokensPerMessage: number;
  tokensPerPrompt: number;
}

/** Stands for a content: one character that no template knows. */
const PROBE = '\uf0f0';
const PROBE_BYTES = 3;

function sequences(roles: readonly string[], length: number): string[][] {
  if (length === 0) return [[]];
  return sequences(roles, length - 1).flatMap((head) => roles.map((role) => [...head, role]));
}

const VARIANTS: readonly ((role: string) => TemplateMessage)[] = [
  (role) => ({ role, content: PROBE }),
  (role) => ({ role, content: PROBE, name: PROBE }),
  (role) => ({ role, content: '' }),
];

/** Role sequences that are tried: each role after each pair of others, some after three. */
const CASES: readonly (readonly string[])[] = [
  ...[1, 2, 3].flatMap((length) => sequences(['system', 'user', 'assistant', 'developer'], length)),
  ...sequences(['system', 'user', 'assistant'], 4),
];

function overheadOf(
  messages: readonly TemplateMessage[],
  segments: readonly Segment[],
  countPlain: (text: string) => number,
): number {
  let overhead = 0;
  let seen = 0;
  for (const segment of segments) {
    const probes = typeof segment === 'string' ? segment.split(PROBE).length - 1 : 0;
    seen += probes;
    if (typeof segment === 'number') overhead += 1;
    else if (probes === 0) overhead += countPlain(segment);
    else overhead += Buffer.byteLength(segment, 'utf8') - probes * PROBE_BYTES;
  }
  const given = messages.reduce((sum, { content, name }) => sum + (content ? 1 : 0) + (name ? 1 : 0), 0);
  if (seen > given)
    throw new ChatTemplateError('bounds', 'the chat template writes a message more than once: its length has no bound');
  return overhead;
}

/**
 * `renderAll` gives each chat's segments, or the template's refusal; `countPlain` counts tokens of plain text.
 * Throws ChatTemplateError when the template takes no messages at all, or writes a content more than once.
 */
export function measureOverhead(
  renderAll: (chats: readonly (readonly TemplateMessage[])[]) => readonly (readonly Segment[] | ChatTemplateError)[],
  countPlain: (text: string) => number,
): TemplateOverhead {
  const chats = VARIANTS.flatMap((variant) => CASES.map((roles) => roles.map(variant)));
  const rendered = renderAll(chats);
  const accepted: { messages: number; overhead: number }[] = [];
  let tokensPerMessage = 0;
  let known = new Map<string, number>();
  for (const [i, messages] of chats.entries()) {
    if (i % CASES.length === 0) known = new Map();
    const segments = rendered[i];
    if (!segments || segments instanceof ChatTemplateError) continue;
    const overhead = overheadOf(messages, segments, countPlain);
    const roles = messages.map(({ role }) => role);
    known.set(roles.join(), overhead);
    accepted.push({ messages: roles.length, overhead });
    // What the last message added, or the last few where the template refuses the ones between.
    for (let added = 1; added < roles.length; added++) {
      const before = known.get(roles.slice(0, -added).join());
      if (before === undefined) continue;
      tokensPerMessage = Math.max(tokensPerMessage, Math.ceil((overhead - before) / added));
      break;
    }
  }
  if (accepted.length === 0) {
    const refusal = rendered.find((one) => one instanceof ChatTemplateError);
    throw refusal ?? new ChatTemplateError('refused', 'the chat template takes no messages');
  }
  const rest = accepted.map(({ messages, overhead }) => overhead - messages * tokensPerMessage);
  return { tokensPerMessage, tokensPerPrompt: Math.max(0, ...rest) };
}
