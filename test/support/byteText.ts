// The smallest honest tokeniser: a token per byte, and four control tokens. Exact in both directions, so a test can compute what it
// expects in its head; as real as any other to the pool, which knows only the interface.
import type { ModelText } from '../../engine/model/types.ts';

const CONTROL = ['<bos>', '<eos>', '<turn>', '<end>'];
export const BYTE_TEXT_VOCAB = 256 + CONTROL.length;
export const BYTE_TEXT_BOS = 256;
export const BYTE_TEXT_EOS = 257;

class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

function encode(text: string, parseSpecial: boolean): number[] {
  if (!parseSpecial) return [...Buffer.from(text)];
  return text
    .split(/(<bos>|<eos>|<turn>|<end>)/)
    .flatMap((part) => (CONTROL.includes(part) ? [256 + CONTROL.indexOf(part)] : [...Buffer.from(part)]));
}

function tokenBytes(id: number): Uint8Array {
  return id < 256 ? Uint8Array.of(id) : Buffer.from(CONTROL[id - 256] ?? '');
}

/** `<turn>role\ncontent<end>` per message, then an open assistant turn. A message that says REFUSE is refused. */
export function byteText(options: { bos?: boolean } = {}): ModelText {
  return {
    vocabSize: BYTE_TEXT_VOCAB,
    bosId: options.bos === false ? null : BYTE_TEXT_BOS,
    eosIds: new Set([BYTE_TEXT_EOS]),
    templateTokensPerMessage: 12,
    templateTokensPerPrompt: 11,
    encode: (text, { parseSpecial }) => encode(text, parseSpecial),
    decode: (ids, { skipSpecial } = {}) =>
      Buffer.concat(ids.filter((id) => id < 256 || !skipSpecial).map(tokenBytes)).toString('utf8'),
    tokenBytes,
    isControl: (id) => id >= 256,
    renderChat: (messages) => {
      if (messages.some((message) => message.content === 'REFUSE'))
        throw new ChatTemplateError('conversation roles must alternate');
      const turns = messages.map(({ role, content }) => [258, ...encode(`${role}\n${content}`, false), 259]);
      return [...turns.flat(), 258, ...encode('assistant\n', false)];
    },
  };
}
