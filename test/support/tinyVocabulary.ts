// A byte-level BPE vocabulary of any size for tiny models: control tokens, all bytes, lower-case pairs in the order of their merges,
// and unused fillers. Real in form: tokeniser and chat template work on it.
import type { WrittenValue } from './ggufWriter.ts';

const CONTROL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];
const LETTERS = 'etaoinshrdlucmfwypvbgkjqxz';

export const TINY_CHAT_TEMPLATE = `{% for message in messages %}{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system
Be brief.<|im_end|>
' }}{% endif %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}`;

/** GPT-2's bytes_to_unicode: printable Latin-1 as itself, the rest from U+0100 on. */
function byteCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
}

/** Tokeniser metadata with exactly `vocabSize` tokens. */
export function tinyVocabulary(vocabSize: number): [key: string, value: WrittenValue][] {
  const pairs: [string, string][] = [];
  for (const left of `Ġ${LETTERS}`) for (const right of LETTERS) pairs.push([left, right]);
  const words = [...CONTROL, ...byteCharacters(), ...pairs.map(([left, right]) => left + right)];
  const tokens = Array.from({ length: vocabSize }, (_, id) => words[id] ?? `<|unused_${id}|>`);
  const types = tokens.map((_, id) => (id < CONTROL.length ? 3 : id < words.length ? 1 : 5));
  const present = new Set(tokens);
  const merges = pairs.filter(([left, right]) => present.has(left + right)).map((pair) => pair.join(' '));
  return [
    ['tokenizer.ggml.model', ['string', 'gpt2']],
    ['tokenizer.ggml.pre', ['string', 'smollm']],
    ['tokenizer.ggml.tokens', ['string', tokens]],
    ['tokenizer.ggml.token_type', ['i32', types]],
    ['tokenizer.ggml.merges', ['string', merges]],
    ['tokenizer.ggml.bos_token_id', ['u32', 1]],
    ['tokenizer.ggml.eos_token_id', ['u32', 2]],
    ['tokenizer.ggml.add_bos_token', ['bool', false]],
    ['tokenizer.chat_template', ['string', TINY_CHAT_TEMPLATE]],
  ];
}
